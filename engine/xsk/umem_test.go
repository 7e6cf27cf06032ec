package xsk

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestFill: afterwards no page has to be fetched when the first packet needs it.
func TestFill(t *testing.T) {
	u, err := NewUMEM(3000)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if err := u.Fill(nil); err != nil {
		t.Fatal(err)
	}
	mem := u.Mem()
	resident := make([]byte, u.Frames())
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&mem[0])), uintptr(len(mem)), uintptr(unsafe.Pointer(&resident[0]))); errno != 0 {
		t.Fatal(errno)
	}
	for i, r := range resident {
		if r&1 == 0 {
			t.Fatalf("page %d of %d is not in memory", i, len(resident))
		}
	}
}
