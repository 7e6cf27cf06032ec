package rewrite

import (
	"unsafe"

	"sluice/pipeline/packet"
)

// macs returns both addresses of the link, in the order of an Ethernet header: one copy of 12 bytes
// is half the work of two copies of 6. There is no padding between two arrays of bytes.
func (l *Link) macs() *[12]byte { return (*[12]byte)(unsafe.Pointer(&l.DMAC)) }

// outer4 returns the Ethernet and IPv4 headers in front of a packet with headers at start of its
// chunk. It panics if the headroom is too short, which is a bug in Sluice, whatever a sender does.
func outer4(h *packet.Headers, start int) *[packet.EthernetLen + packet.IPv4Len]byte {
	if start < packet.IPv4Len {
		noHeadroom()
	}
	return (*[packet.EthernetLen + packet.IPv4Len]byte)(unsafe.Add(unsafe.Pointer(h), -packet.IPv4Len))
}

// outer6 is outer4 for IPv6.
func outer6(h *packet.Headers, start int) *[packet.EthernetLen + packet.IPv6Len]byte {
	if start < packet.IPv6Len {
		noHeadroom()
	}
	return (*[packet.EthernetLen + packet.IPv6Len]byte)(unsafe.Add(unsafe.Pointer(h), -packet.IPv6Len))
}

func noHeadroom() { panic("rewrite: no room for an outer header") }
