package packet

import "sluice/pipeline/counter"

// maxExtensions bounds the extension headers that are skipped in one packet.
const maxExtensions = 8

// Next header numbers of IPv6 extension headers (IANA, IPv6 Extension Header Types).
const (
	hopByHop    = 0
	routing     = 43
	fragment    = 44
	esp         = 50
	ah          = 51
	destination = 60
	mobility    = 135
	hip         = 139
	shim6       = 140
	experiment1 = 253
	experiment2 = 254
)

// parse6 reads the IPv6 packet at the start of ip (RFC 8200), which may be followed by Ethernet
// padding. ip is a part of the chunk mem, m.L3 bytes from its start.
func parse6(ip, mem []byte, m *Meta) counter.Reason {
	if len(ip) < IPv6Len {
		return counter.Short
	}
	a := be64(ip) // version, traffic class, flow label, payload length, next header, hop limit
	total := IPv6Len + int(a>>16&0xffff)
	if a>>60 != 6 || total == IPv6Len {
		return counter.BadIPHeader
	}
	if total > len(ip) {
		return counter.Short
	}
	src, dst := Addr{be64(ip[8:]), be64(ip[16:])}, Addr{be64(ip[24:]), be64(ip[32:])}
	if Martian6(src, dst) {
		return counter.Martian
	}
	m.Src, m.Dst = src, dst
	m.End = m.L3 + uint16(total)
	m.Family, m.TTL = 6, uint8(a)
	proto, at := uint8(a>>8), IPv6Len
	if proto != TCP && proto != UDP {
		var reason counter.Reason
		if proto, at, reason = extensions(ip[:total], proto, false); reason != counter.None {
			return reason
		}
	}
	m.L4 = m.L3 + uint16(at)
	m.Proto = proto
	switch proto {
	case TCP:
		return parseTCP(mem, int(m.L4), total-at, m)
	case UDP:
		return parseUDP(ip[at:total], m)
	case ICMPv6:
		return parseICMP6(ip[at:total], m)
	}
	return counter.UnknownProtocol
}

// Martian6 is Martian4 for IPv6.
func Martian6(src, dst Addr) bool {
	return src.Hi>>56 == 0xff || src.Hi == 0 && (src.Lo <= 1 || src.Is4()) || dst.Is4() || src == dst
}

// extensions follows the extension headers of the packet ip; next is the type of the first one. It
// returns the protocol after the last one and its offset in ip, or the reason to drop. It skips the
// header of an atomic fragment, which is a whole packet (RFC 6946), and in a packet embedded in an
// ICMP error that of a first fragment.
func extensions(ip []byte, next uint8, inError bool) (proto uint8, at int, reason counter.Reason) {
	at = IPv6Len
	for n := 0; ; n++ {
		switch next {
		case hopByHop, routing, destination, fragment:
		case esp, ah, mobility, hip, shim6, experiment1, experiment2:
			return 0, 0, counter.IPOptions
		default:
			return next, at, counter.None
		}
		if n == maxExtensions {
			return 0, 0, counter.IPOptions
		}
		if len(ip)-at < 8 {
			return 0, 0, counter.BadIPHeader
		}
		header := ip[at:]
		length := 8 + int(header[1])*8
		switch next {
		case hopByHop:
			if n > 0 { // only as the first (RFC 8200, 4.1)
				return 0, 0, counter.IPOptions
			}
		case routing:
			if header[3] != 0 { // segments left
				return 0, 0, counter.IPOptions
			}
		case fragment:
			f := be16(header[2:])
			if f&0xfff8 != 0 || f&1 != 0 && !inError { // offset; more fragments
				return 0, 0, counter.Fragment
			}
			length = 8
		}
		if length > len(header) {
			return 0, 0, counter.BadIPHeader
		}
		next, at = header[0], at+length
	}
}

// parseICMP6 reads an ICMPv6 error (RFC 4443) and the start of the packet that it embeds.
func parseICMP6(seg []byte, m *Meta) counter.Reason {
	if len(seg) < ICMPLen {
		return counter.BadICMP
	}
	if seg[0] < 1 || seg[0] > 4 { // unreachable, too big, time exceeded, parameter problem
		return counter.UnknownProtocol
	}
	ip := seg[ICMPLen:]
	if len(ip) < IPv6Len || ip[0]>>4 != 6 {
		return counter.BadICMP
	}
	proto, at, reason := extensions(ip, ip[6], true)
	if reason != counter.None || proto != TCP && proto != UDP || len(ip) < at+8 {
		return counter.BadICMP
	}
	m.Src, m.Dst = Addr{be64(ip[8:]), be64(ip[16:])}, Addr{be64(ip[24:]), be64(ip[32:])}
	if m.Src.Is4() || m.Dst.Is4() {
		return counter.BadICMP
	}
	embedded(m, at, proto, ip[at:])
	return counter.None
}
