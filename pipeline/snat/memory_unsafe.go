package snat

import (
	"slices"
	"unsafe"
)

// bytes returns the size of n of this kind.
func (s *store[T]) bytes(n int) int {
	var t T
	return n * int(unsafe.Sizeof(t))
}

// add divides the memory. It must be aligned to 8 bytes, which what mmap returns is.
func (s *store[T]) add(mem []byte) {
	n := len(mem) / s.bytes(1)
	if n == 0 {
		return
	}
	all := unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(mem))), n)
	s.added += n
	s.free = slices.Grow(s.free, s.added-len(s.free))
	for i := range slices.Backward(all) { // the first is taken first
		s.free = append(s.free, &all[i])
	}
}
