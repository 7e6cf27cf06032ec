package packet

import (
	"encoding/binary"

	"sluice/pipeline/counter"
)

// Parse reads the frame mem[start:end], from its Ethernet header on, into m. mem is the whole
// chunk, at most 65,535 bytes, and 0 <= start <= end <= len(mem). It writes nothing to mem.
//
// The result is counter.None, or the reason to drop the frame; then m is invalid, except that with
// UnknownProtocol all of m but what concerns TCP and UDP is valid.
//
// IPv4 (RFC 791) is read in this function, because a call costs as much as all its checks. Three
// loads hold the whole header:
//
//	a: version, IHL, type of service, total length, identification, flags, fragment offset
//	b: time to live, protocol, checksum, source
//	c: destination
//
//go:noinline
func Parse(mem []byte, start, end int, m *Meta) counter.Reason {
	available := end - start - EthernetLen
	if available < IPv4Len {
		return counter.Short
	}
	*m = Meta{L2: uint16(start), L3: uint16(start + EthernetLen)}
	h := EthernetV4(mem, start)
	if be16(h[12:]) != EtherTypeIPv4 {
		return parseOther(mem, start, end, m)
	}
	a, b, c := be64(h[14:]), be64(h[22:]), be32(h[30:])
	total := int(a >> 32 & 0xffff)
	if a>>56 != 0x45 || total < IPv4Len || total > available {
		return refuse4(mem[start+EthernetLen:end], total)
	}
	if Sum(a).Add(b).Add(uint64(c)).Fold() != 0xffff {
		return counter.BadIPChecksum
	}
	if a&0x3fff != 0 { // more fragments, or an offset
		return counter.Fragment
	}
	src := uint32(b)
	if Martian4(src, c) {
		return counter.Martian
	}
	m.Src, m.Dst = AddrFrom4(src), AddrFrom4(c)
	m.L4, m.End = uint16(start+EthernetLen+IPv4Len), uint16(start+EthernetLen+total)
	m.Family, m.TTL, m.Proto = 4, uint8(b>>56), uint8(b>>48)
	if m.Proto == TCP {
		return parseTCP(mem, start+EthernetLen+IPv4Len, total-IPv4Len, m)
	}
	return parseTransport4(mem, m)
}

// Martian4 reports whether no packet may have this source, or this source with this destination.
func Martian4(src, dst uint32) bool {
	net := src >> 24
	return net-1 >= 223 || net == 127 || src == dst // 0, or 224 and above
}

// parseOther is Parse for a frame with another EtherType than IPv4. Parse has checked the length of
// the Ethernet header.
func parseOther(mem []byte, start, end int, m *Meta) counter.Reason {
	switch be16(mem[start+12:]) {
	case EtherTypeIPv6:
		return parse6(mem[start+EthernetLen:end], mem, m)
	case EtherTypeTag, EtherTypeTagS:
		return parseTagged(mem, start, end, m)
	}
	return counter.NotIP
}

// parseTransport4 reads what follows an IPv4 header, for protocols other than TCP.
func parseTransport4(mem []byte, m *Meta) counter.Reason {
	switch m.Proto {
	case UDP:
		return parseUDP(mem[m.L4:m.End], m)
	case ICMP:
		return parseICMP4(mem[m.L4:m.End], m)
	}
	return counter.UnknownProtocol
}

// parseTagged is Parse for a tagged frame. Parse has checked the length of the tag. Without the
// tag, the frame would start four bytes later: that is what it parses.
func parseTagged(mem []byte, start, end int, m *Meta) counter.Reason {
	tag := mem[start+EthernetLen:]
	if next := be16(tag[2:]); next == EtherTypeTag || next == EtherTypeTagS {
		return counter.VLANStack
	}
	reason := Parse(mem, start+TagLen, end, m)
	m.L2, m.VLAN = uint16(start), be16(tag)&0xfff
	return reason
}

// parseTCP reads the TCP header at mem[at:]. length is that of the header and its payload, in
// bytes.
func parseTCP(mem []byte, at, length int, m *Meta) counter.Reason {
	if length < TCPLen {
		return counter.BadL4Header
	}
	h := TCPHeader(mem, at)
	word := be16(h[12:]) // data offset in words of four bytes, flags
	if header := int(word>>12) * 4; header < TCPLen || header > length {
		return counter.BadL4Header
	}
	m.TCPFlags = uint8(word) & (FIN | SYN | RST | PSH | ACK)
	if 1<<m.TCPFlags&badFlags != 0 {
		return counter.BadTCPFlags
	}
	m.SrcPort, m.DstPort = be16(h[0:]), be16(h[2:])
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

// IsEcho reports whether a frame that Parse refused as UnknownProtocol is an ICMP echo request.
func IsEcho(mem []byte, m *Meta) bool {
	request := uint16(8 << 8) // type and code
	switch {
	case m.Family == 4 && m.Proto == ICMP:
	case m.Family == 6 && m.Proto == ICMPv6:
		request = 128 << 8
	default:
		return false
	}
	return m.End-m.L4 >= ICMPLen && be16(mem[m.L4:]) == request
}

// outside panics instead of an access outside of a chunk. That is a bug in Sluice, whatever a
// sender does.
func outside() { panic("packet: offset outside of the chunk") }

func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
func be64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }
