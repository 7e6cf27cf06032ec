package packet

import "unsafe"

// The functions below are mem[off:] seen as a header of fixed size. Reading and writing at constant offsets of an
// array costs no checks, and finding it costs one: that it lies within mem. Slicing mem costs three times as much.
// They panic if it doesn't lie there, so the caller has made sure of it: that is what Parse is for.

// FrameV4 is a frame's Ethernet and IPv4 header.
func FrameV4(mem []byte, off int) *[EthernetLen + IPv4Len]byte {
	return (*[EthernetLen + IPv4Len]byte)(at(mem, off, EthernetLen+IPv4Len))
}

// HeaderTCP is a TCP header without its options.
func HeaderTCP(mem []byte, off int) *[TCPLen]byte { return (*[TCPLen]byte)(at(mem, off, TCPLen)) }

func at(mem []byte, off, size int) unsafe.Pointer {
	if uint(off+size) > uint(len(mem)) {
		outside()
	}
	return unsafe.Add(unsafe.Pointer(unsafe.SliceData(mem)), off)
}
