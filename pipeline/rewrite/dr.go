package rewrite

import "sluice/pipeline/packet"

// Link is where a frame goes next at layer 2. Package rewrite uses the addresses and the tag; MTU
// and Port are there for the caller, who has to look at them in the same breath.
type Link struct {
	DMAC, SMAC [6]byte
	VLAN       uint16 // VLAN identifier; 0: untagged
	MTU        uint16 // of the egress port, in bytes from the IP header on
	Port       uint8  // egress port
}

// SetLink writes the Ethernet header directly in front of m.L3, with an 802.1Q tag if the link has
// one, and returns the frame's new start. It is all that direct routing (DR) does to a frame, and
// the last that all modes do.
//
// The EtherType is there already, in the two bytes before m.L3: from the wire, with or without a
// tag, or from whoever put another header there.
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

// SwapLink sends a frame back where it came from: its Ethernet addresses change places, and a tag
// stays. It returns the frame's start, which an answer may have moved.
func SwapLink(mem []byte, m *packet.Meta) (start int) {
	h := (*[12]byte)(mem[m.L2:])
	dst := [6]byte(h[:6])
	copy(h[:6], h[6:])
	copy(h[6:], dst[:])
	return int(m.L2)
}
