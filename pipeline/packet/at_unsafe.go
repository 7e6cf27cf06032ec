package packet

import "unsafe"

// The functions below are mem[off:] seen as headers of fixed size, each named for what stands
// there: without tags, options and extension headers. Reading and writing at constant offsets of an
// array costs no checks, and finding it costs one: that it lies within mem. Slicing mem costs three
// times as much. They panic if it doesn't lie there, so the caller has made sure of it: that is
// what Parse is for.

// Ethernet is an Ethernet header.
func Ethernet(mem []byte, off int) *[EthernetLen]byte {
	return (*[EthernetLen]byte)(at(mem, off, EthernetLen))
}

// EthernetV4 is an Ethernet header with the IPv4 header behind it.
func EthernetV4(mem []byte, off int) *[EthernetLen + IPv4Len]byte {
	return (*[EthernetLen + IPv4Len]byte)(at(mem, off, EthernetLen+IPv4Len))
}

// V4 is an IPv4 header.
func V4(mem []byte, off uint16) *[IPv4Len]byte { return (*[IPv4Len]byte)(at(mem, int(off), IPv4Len)) }

// V4TCP is an IPv4 header with the TCP header behind it.
func V4TCP(mem []byte, off uint16) *[IPv4Len + TCPLen]byte {
	return (*[IPv4Len + TCPLen]byte)(at(mem, int(off), IPv4Len+TCPLen))
}

// V4UDP is an IPv4 header with the UDP header behind it.
func V4UDP(mem []byte, off uint16) *[IPv4Len + UDPLen]byte {
	return (*[IPv4Len + UDPLen]byte)(at(mem, int(off), IPv4Len+UDPLen))
}

// V6 is an IPv6 header.
func V6(mem []byte, off uint16) *[IPv6Len]byte { return (*[IPv6Len]byte)(at(mem, int(off), IPv6Len)) }

// TCPHeader is a TCP header.
func TCPHeader(mem []byte, off int) *[TCPLen]byte { return (*[TCPLen]byte)(at(mem, off, TCPLen)) }

// HeadersAt is the start of a frame, or nil if there is no room for as much behind off: then, other
// than those above, it isn't a mistake.
func HeadersAt(mem []byte, off int) *Headers {
	if uint(off+len(Headers{})) > uint(len(mem)) {
		return nil
	}
	return (*Headers)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(mem)), off))
}

func at(mem []byte, off, size int) unsafe.Pointer {
	if uint(off+size) > uint(len(mem)) {
		outside()
	}
	return unsafe.Add(unsafe.Pointer(unsafe.SliceData(mem)), off)
}
