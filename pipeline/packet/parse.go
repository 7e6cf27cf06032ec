package packet

import (
	"encoding/binary"

	"sluice/pipeline/counter"
)

// Parse reads the frame mem[start:end], from its Ethernet header on, into m. mem is the whole chunk, at most
// 65,535 bytes, and 0 <= start <= end <= len(mem). It writes nothing to mem.
//
// The result is counter.None, or the reason to drop the frame; then m says nothing, whatever it holds.
//
// IPv4 (RFC 791) is read right here, because a call costs as much as all its checks. Three loads hold the whole
// header:
//
//	a: version, IHL, type of service, total length, identification, flags, fragment offset
//	b: time to live, protocol, checksum, source
//	c: destination
func Parse(mem []byte, start, end int, m *Meta) counter.Reason {
	frame := mem[start:end]
	if len(frame) < EthernetLen+IPv4Len {
		return counter.Short
	}
	*m = Meta{L2: uint16(start), L3: uint16(start + EthernetLen)}
	ip := frame[EthernetLen:]
	switch be16(frame[12:]) {
	case EtherTypeIPv4:
	case EtherTypeIPv6:
		return parse6(ip, m)
	case EtherTypeTag, EtherTypeTagS:
		return parseTagged(mem, start, end, m)
	default:
		return counter.NotIP
	}
	a, b, c := be64(ip), be64(ip[8:]), be32(ip[16:])
	total := int(a >> 32 & 0xffff)
	if a>>56 != 0x45 || total < IPv4Len || total > len(ip) {
		return refuse4(ip, total)
	}
	if Sum(a).Add(b).Add(uint64(c)).Fold() != 0xffff {
		return counter.BadIPChecksum
	}
	if a&0x3fff != 0 { // more fragments, or an offset
		return counter.Fragment
	}
	src := uint32(b)
	if net := src >> 24; net == 0 || net == 127 || net >= 224 || src == c {
		return counter.Martian
	}
	m.Src, m.Dst = AddrFrom4(src), AddrFrom4(c)
	m.L4, m.End = m.L3+IPv4Len, m.L3+uint16(total)
	m.Family, m.TTL, m.Proto = 4, uint8(b>>56), uint8(b>>48)
	seg := ip[IPv4Len:total]
	switch m.Proto {
	case TCP:
		return parseTCP(seg, m)
	case UDP:
		return parseUDP(seg, m)
	case ICMP:
		return parseICMP4(seg, m)
	}
	return counter.UnknownProtocol
}

// parseTagged is Parse for a frame that has a tag and is as long as Parse made sure. Without the tag, the frame
// would start four bytes later: that is what is parsed.
func parseTagged(mem []byte, start, end int, m *Meta) counter.Reason {
	tag := mem[start+EthernetLen:]
	if next := be16(tag[2:]); next == EtherTypeTag || next == EtherTypeTagS {
		return counter.VLANStack
	}
	reason := Parse(mem, start+TagLen, end, m)
	m.L2, m.VLAN = uint16(start), be16(tag)&0xfff
	return reason
}

// parseTCP reads the TCP header at the start of seg, the payload of the packet's IP header.
func parseTCP(seg []byte, m *Meta) counter.Reason {
	if len(seg) < TCPLen || seg[12] < TCPLen/4<<4 || int(seg[12]>>4)*4 > len(seg) {
		return counter.BadL4Header
	}
	m.TCPFlags = seg[13] & (FIN | SYN | RST | PSH | ACK)
	if 1<<m.TCPFlags&badFlags != 0 {
		return counter.BadTCPFlags
	}
	m.SrcPort, m.DstPort = be16(seg), be16(seg[2:])
	return counter.None
}

// parseUDP reads the UDP header at the start of seg.
func parseUDP(seg []byte, m *Meta) counter.Reason {
	if len(seg) < UDPLen {
		return counter.BadL4Header
	}
	if n := int(be16(seg[4:])); n < UDPLen || n > len(seg) {
		return counter.BadL4Header
	}
	m.SrcPort, m.DstPort = be16(seg), be16(seg[2:])
	return counter.None
}

func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
func be64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }
