package packet

import "unsafe"

// The functions below return mem[off:] as headers of fixed size, without tags, options and
// extension headers. Accesses at constant offsets of an array need no checks, and the functions
// check once that the array lies within mem; slicing mem costs three times as much. They panic if
// it does not, so the caller must have checked the lengths: Parse has.

// Ethernet returns an Ethernet header.
func Ethernet(mem []byte, off int) *[EthernetLen]byte {
	return (*[EthernetLen]byte)(at(mem, off, EthernetLen))
}

// EthernetV4 returns an Ethernet header and the IPv4 header after it.
func EthernetV4(mem []byte, off int) *[EthernetLen + IPv4Len]byte {
	return (*[EthernetLen + IPv4Len]byte)(at(mem, off, EthernetLen+IPv4Len))
}

// V4 returns an IPv4 header.
func V4(mem []byte, off uint16) *[IPv4Len]byte { return (*[IPv4Len]byte)(at(mem, int(off), IPv4Len)) }

// V4TCP returns an IPv4 header and the TCP header after it.
func V4TCP(mem []byte, off uint16) *[IPv4Len + TCPLen]byte {
	return (*[IPv4Len + TCPLen]byte)(at(mem, int(off), IPv4Len+TCPLen))
}

// V4UDP returns an IPv4 header and the UDP header after it.
func V4UDP(mem []byte, off uint16) *[IPv4Len + UDPLen]byte {
	return (*[IPv4Len + UDPLen]byte)(at(mem, int(off), IPv4Len+UDPLen))
}

// V6 returns an IPv6 header.
func V6(mem []byte, off uint16) *[IPv6Len]byte { return (*[IPv6Len]byte)(at(mem, int(off), IPv6Len)) }

// TCPHeader returns a TCP header.
func TCPHeader(mem []byte, off int) *[TCPLen]byte { return (*[TCPLen]byte)(at(mem, off, TCPLen)) }

// HeadersAt returns the start of a frame at off, nil if mem ends before the end of the array. It is
// not a bug to call it there, unlike the functions above.
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
