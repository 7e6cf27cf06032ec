package takeover

import "unsafe"

// wordsOf returns the words of a value, which has nothing but words.
func wordsOf[T any](of *T) []uint64 {
	return unsafe.Slice((*uint64)(unsafe.Pointer(of)), unsafe.Sizeof(*of)/wordBytes)
}
