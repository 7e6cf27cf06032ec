package rings

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Map returns the memory of a ring of n entries in mem, a mapping of an AF_XDP socket, at the
// offsets that the kernel returned for it (XDP_MMAP_OFFSETS). The result points into mem and is
// invalid after mem is unmapped. It fails if the ring does not lie within mem, aligned.
func Map[T uint64 | Desc](mem []byte, off unix.XDPRingOffset, n int) (Memory[T], error) {
	var entry T
	size := uint64(len(mem))
	if n < 1 || n > maxCapacity || off.Desc > size || MapBytes[T](off, n) > size || off.Desc%uint64(unsafe.Alignof(entry)) != 0 {
		return Memory[T]{}, fmt.Errorf("rings: %d entries of %d bytes at offset %d don't fit a mapping of %d bytes",
			n, unsafe.Sizeof(entry), off.Desc, len(mem))
	}
	for _, word := range []uint64{off.Producer, off.Consumer, off.Flags} {
		if word%4 != 0 || word >= size || size-word < 4 {
			return Memory[T]{}, fmt.Errorf("rings: index word at offset %d of a mapping of %d bytes", word, len(mem))
		}
	}
	return Memory[T]{
		Producer: (*uint32)(unsafe.Pointer(&mem[off.Producer])),
		Consumer: (*uint32)(unsafe.Pointer(&mem[off.Consumer])),
		Flags:    (*uint32)(unsafe.Pointer(&mem[off.Flags])),
		Entries:  unsafe.Slice((*T)(unsafe.Pointer(&mem[off.Desc])), n),
	}, nil
}

// MapBytes returns how many bytes of a socket must be mapped for a ring of n entries.
func MapBytes[T uint64 | Desc](off unix.XDPRingOffset, n int) uint64 {
	var entry T
	return off.Desc + uint64(n)*uint64(unsafe.Sizeof(entry))
}
