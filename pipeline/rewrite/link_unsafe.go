package rewrite

import (
	"unsafe"

	"sluice/pipeline/packet"
)

// macs is both addresses of the link, as they stand in an Ethernet header: one copy of 12 bytes is
// half the work of two copies of 6. Between two arrays of bytes there is no padding.
func (l *Link) macs() *[12]byte { return (*[12]byte)(unsafe.Pointer(&l.DMAC)) }

// outer4 gives the Ethernet and IPv4 headers that are to be ahead of a packet whose headers lie at
// start of their chunk. That there is room for them is for the chunk's owner to see to: a mistake
// of ours, never of a sender.
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
