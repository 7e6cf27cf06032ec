package packet

import "sluice/pipeline/counter"

// Part is what a frame holds of its packet.
type Part uint8

// The parts.
const (
	Whole Part = iota
	First      // the first fragment: it has the ports
	Later      // another fragment: it has none
)

// maxPacket is the greatest length of an IP packet, in bytes after the IPv6 header, and with the
// IPv4 header.
const maxPacket = 65535

// ParseFragment reads a frame that Parse refused as counter.Fragment into m and returns the
// identification of the packet that it is a part of. m describes a first fragment as if it were a
// whole packet. A later one has no ports, and in IPv6 m.Proto is what its fragment header says:
// extension headers may come before TCP or UDP in the first fragment.
//
// The result is counter.None, or the reason to drop the frame. counter.BadFragment is one that no
// sender makes: with it, data would overwrite the transport header or exceed the packet when a host
// reassembles (RFC 1858, RFC 3128, RFC 7112, RFC 8200, 4.5).
func ParseFragment(mem []byte, start, end int, m *Meta) (id uint32, reason counter.Reason) {
	*m = Meta{L2: uint16(start), L3: uint16(start + EthernetLen)}
	etherType := be16(mem[start+12:])
	if etherType == EtherTypeTag || etherType == EtherTypeTagS {
		m.VLAN = be16(mem[start+EthernetLen:]) & 0xfff
		m.L3 += TagLen
		etherType = be16(mem[start+EthernetLen+2:])
	}
	ip := mem[m.L3:end]
	if etherType == EtherTypeIPv6 {
		return parseFragment6(ip, mem, m)
	}
	src, dst := be32(ip[12:]), be32(ip[16:])
	if Martian4(src, dst) {
		return 0, counter.Martian
	}
	m.Src, m.Dst = AddrFrom4(src), AddrFrom4(dst)
	m.L4, m.End = m.L3+IPv4Len, m.L3+be16(ip[2:])
	m.Family, m.TTL, m.Proto = 4, ip[8], ip[9]
	if m.Proto != TCP && m.Proto != UDP {
		return 0, counter.Fragment
	}
	flags := be16(ip[6:])
	offset := int(flags&0x1fff) * 8
	return uint32(be16(ip[4:])), m.fragment(mem, offset, IPv4Len+offset, flags&0x2000 != 0)
}

// fragment ends ParseFragment. The fragment's payload is mem[m.L4:m.End], offset bytes from the
// start of the packet's, and end bytes of the packet come before it.
func (m *Meta) fragment(mem []byte, offset, end int, more bool) counter.Reason {
	length := int(m.End - m.L4)
	switch {
	case length == 0, more && length%8 != 0, end+length > maxPacket:
		return counter.BadFragment
	case offset > 0:
		if m.Part = Later; offset < TCPLen && m.Proto == TCP {
			return counter.BadFragment
		}
		return counter.None
	}
	m.Part = First
	if m.Proto == UDP {
		return m.firstUDP(mem[m.L4:m.End])
	}
	if reason := parseTCP(mem, int(m.L4), length, m); reason != counter.BadL4Header {
		return reason
	}
	return counter.BadFragment // the header ends in another fragment
}

// firstUDP reads the UDP header of a first fragment, which says how long the whole datagram is.
func (m *Meta) firstUDP(seg []byte) counter.Reason {
	if len(seg) < UDPLen {
		return counter.BadFragment
	}
	if be16(seg[4:]) < UDPLen {
		return counter.BadL4Header
	}
	m.SrcPort, m.DstPort = be16(seg), be16(seg[2:])
	return counter.None
}

// parseFragment6 is ParseFragment for the IPv6 packet at the start of ip. Parse has checked all
// headers up to the fragment header.
func parseFragment6(ip, mem []byte, m *Meta) (id uint32, reason counter.Reason) {
	total := IPv6Len + int(be16(ip[4:]))
	m.Src, m.Dst = Addr{be64(ip[8:]), be64(ip[16:])}, Addr{be64(ip[24:]), be64(ip[32:])}
	m.Family, m.TTL, m.End = 6, ip[7], m.L3+uint16(total)
	next, at := ip[6], IPv6Len
	for next != fragment || be16(ip[at+2:])&0xfff9 == 0 { // others, and atomic fragments
		length := 8 + int(ip[at+1])*8
		if next == fragment {
			length = 8
		}
		next, at = ip[at], at+length
	}
	header := ip[at:]
	flags := be16(header[2:])
	m.FragmentHeader = m.L3 + uint16(at)
	m.L4, m.Proto = m.FragmentHeader+8, header[0]
	offset := int(flags & 0xfff8)
	if offset == 0 {
		if m.Proto, at, reason = extensions(ip[:total], ip[6], true); reason == counter.BadIPHeader {
			return 0, counter.BadFragment // the headers end in another fragment
		} else if reason != counter.None {
			return 0, reason
		}
		m.L4 = m.L3 + uint16(at)
	}
	if !mayFollow(m.Proto, offset > 0) {
		return 0, counter.Fragment
	}
	return be32(header[4:]), m.fragment(mem, offset, offset, flags&1 != 0)
}

// mayFollow reports whether TCP or UDP may begin at a header of this number, or, in a later
// fragment, may have begun behind it in the first one.
func mayFollow(next uint8, later bool) bool {
	return next == TCP || next == UDP || later && next == destination
}
