package xsk

import "unsafe"

// wordsOf returns memory that is aligned to 8 bytes as words.
func wordsOf(mem []byte) []uint64 {
	return unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(mem))), len(mem)/8)
}
