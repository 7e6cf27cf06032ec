package rewrite

import "sluice/pipeline/packet"

// Link is the next hop of a frame at layer 2. Package rewrite uses the addresses and the tag; MTU
// and Port are for the caller.
type Link struct {
	DMAC, SMAC [6]byte
	VLAN       uint16 // VLAN identifier; 0: untagged
	MTU        uint16 // of the egress port, in bytes from the IP header on
	Port       uint8  // egress port
}

// SetLink writes the Ethernet header directly in front of m.L3, with an 802.1Q tag if the link has
// one, and returns the frame's new start. It is all that direct routing (DR) does to a frame except
// for the TTL, and the last step of all modes.
//
// The EtherType is already in the two bytes before m.L3: it was received there, or the function
// that put another header there has written it.
func SetLink(mem []byte, m *packet.Meta, l *Link) (start int) {
	if l.VLAN != 0 {
		return setTagged(mem, m, l)
	}
	start = int(m.L3) - packet.EthernetLen
	*(*[12]byte)(packet.Ethernet(mem, start)[:]) = *l.macs()
	m.L2 = uint16(start)
	return start
}

func setTagged(mem []byte, m *packet.Meta, l *Link) (start int) {
	start = int(m.L3) - packet.EthernetLen - packet.TagLen
	h := (*[packet.EthernetLen + packet.TagLen]byte)(mem[start:])
	*(*[12]byte)(h[0:]) = *l.macs()
	setBE32(h[12:], packet.EtherTypeTag<<16|uint32(l.VLAN))
	m.L2 = uint16(start)
	return start
}

// SwapLink returns a frame to the neighbour that sent it: it swaps the Ethernet addresses and keeps
// a tag. It returns the frame's start, which an answer may have moved.
func SwapLink(mem []byte, m *packet.Meta) (start int) {
	h := (*[12]byte)(mem[m.L2:])
	dst := [6]byte(h[:6])
	copy(h[:6], h[6:])
	copy(h[6:], dst[:])
	return int(m.L2)
}
