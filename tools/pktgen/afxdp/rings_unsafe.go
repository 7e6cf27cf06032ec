package afxdp

import (
	"os"
	"reflect"
	"unsafe"

	"github.com/asavie/xdp"
	"golang.org/x/sys/unix"
)

// ring is the mapping of one of a socket's rings.
type ring struct {
	start uintptr
	bytes uintptr
}

// ringsOf returns the mappings of the rings, which the library does not export. The indices of a
// ring are on the first page of its mapping; its entries reach to the end.
func ringsOf(socket *xdp.Socket, o xdp.SocketOptions) (rings []ring) {
	const addressBytes, descriptorBytes = uintptr(8), unsafe.Sizeof(xdp.Desc{})
	fields := reflect.ValueOf(socket).Elem()
	for _, of := range []struct {
		name    string
		entries int
		bytes   uintptr
	}{
		{"fillRing", o.FillRingNumDescs, addressBytes},
		{"completionRing", o.CompletionRingNumDescs, addressBytes},
		{"rxRing", o.RxRingNumDescs, descriptorBytes},
		{"txRing", o.TxRingNumDescs, descriptorBytes},
	} {
		field := fields.FieldByName(of.name)
		producer, entries := field.FieldByName("Producer").Pointer(), field.FieldByName("Descs").Pointer()
		if of.entries == 0 || producer == 0 {
			continue
		}
		start := producer &^ uintptr(os.Getpagesize()-1)
		rings = append(rings, ring{start: start, bytes: entries - start + uintptr(of.entries)*of.bytes})
	}
	return rings
}

// unmap unmaps the rings. The socket must not be used afterwards.
func (r ring) unmap() error {
	_, _, errno := unix.Syscall(unix.SYS_MUNMAP, r.start, r.bytes, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
