package rewrite

import "sluice/pipeline/packet"

// Link is where a frame goes next at layer 2. Package rewrite uses the addresses and the tag; MTU and Port are there
// for the caller, who has to look at them in the same breath.
type Link struct {
	DMAC, SMAC [6]byte
	VLAN       uint16 // VLAN identifier; 0: untagged
	MTU        uint16 // of the egress port, in bytes from the IP header on
	Port       uint8  // egress port
}

// SetLink writes the Ethernet header directly in front of m.L3, with an 802.1Q tag if the link has one, and returns
// the frame's new start. It is all that direct routing (DR) does to a frame, and the last that all modes do.
func SetLink(mem []byte, m *packet.Meta, l *Link) (start int) {
	etherType := uint16(packet.EtherTypeIPv4)
	if m.Family == 6 {
		etherType = packet.EtherTypeIPv6
	}
	start = int(m.L3) - packet.EthernetLen
	if l.VLAN != 0 {
		start -= packet.TagLen
		tag := (*[packet.EthernetLen + packet.TagLen]byte)(mem[start:])
		setBE16(tag[14:], l.VLAN)
		setBE16(tag[16:], etherType)
		etherType = packet.EtherTypeTag
	}
	h := (*[packet.EthernetLen]byte)(mem[start:])
	copy(h[0:], l.DMAC[:])
	copy(h[6:], l.SMAC[:])
	setBE16(h[12:], etherType)
	m.L2 = uint16(start)
	return start
}

// SwapLink sends a frame back where it came from: its Ethernet addresses change places, and a tag stays. It returns
// the frame's start, which an answer may have moved.
func SwapLink(mem []byte, m *packet.Meta) (start int) {
	h := (*[12]byte)(mem[m.L2:])
	dst := [6]byte(h[:6])
	copy(h[:6], h[6:])
	copy(h[6:], dst[:])
	return int(m.L2)
}
