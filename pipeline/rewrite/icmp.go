package rewrite

import "sluice/pipeline/packet"

// An ICMP error about a translated packet names, in the packet that it embeds, what the other side
// of the translation has never heard of. So the embedded packet is translated back, together with
// the outer addresses. The outer addresses become what IPVS makes of them (ip_vs_core.c,
// ip_vs_nat_icmp); the embedded transport checksum follows as well, which IPVS leaves out and RFC
// 5508, 4.2 asks for.

// end is one of the two ends of a packet: it says where in the headers that end's address and port
// are.
type side int

const (
	source      side = 0
	destination side = 1
)

func (e side) addr4() int { return 12 + 4*int(e) }
func (e side) addr6() int { return 8 + 16*int(e) }
func (e side) port() int  { return 2 * int(e) }

// ICMPIn turns an ICMP error about a packet that the service sent into one about the packet that
// the backend had sent: embedded source and outer destination become the backend's.
func ICMPIn(mem []byte, m *packet.Meta, backend packet.Addr, port uint16) {
	d := replaceEmbedded(mem, m, source, backend, port)
	d += replaceOuter(mem, m, destination, backend)
	applyDiff(mem[m.L4+2:], d)
}

// ICMPOut turns an ICMP error about a packet that we sent to the backend into one about the packet
// that the client had sent to the service: embedded destination and outer source become the
// service's. The outer source does so even if the error comes from a router on the way to the
// backend, which clients need not know of.
func ICMPOut(mem []byte, m *packet.Meta, vip packet.Addr, port uint16) {
	d := replaceEmbedded(mem, m, destination, vip, port)
	d += replaceOuter(mem, m, source, vip)
	applyDiff(mem[m.L4+2:], d)
}

// ICMPBoth is ICMPIn and ICMPOut for full NAT: the embedded packet becomes one from src to dst, and
// the error goes from dst to src.
func ICMPBoth(mem []byte, m *packet.Meta, src packet.Addr, srcPort uint16, dst packet.Addr, dstPort uint16) {
	ICMPIn(mem, m, src, srcPort)
	ICMPOut(mem, m, dst, dstPort)
}

// replaceEmbedded changes one end of the embedded packet, with its checksums as far as they are
// there, and returns the difference that this makes to the ICMP message.
func replaceEmbedded(mem []byte, m *packet.Meta, e side, a packet.Addr, port uint16) packet.Diff {
	ip, l4 := mem[m.Inner:m.End], mem[m.InnerL4:m.End]
	var d, all packet.Diff // of what the embedded transport checksum covers; of the ICMP message
	if m.Family == 4 {
		before := le16(ip[10:])
		d = put32(ip[e.addr4():], a.V4())
		applyDiff(ip[10:], d)
		all = packet.Diff16(before, le16(ip[10:]))
	} else {
		d = putAddr6(ip[e.addr6():], a)
	}
	d += put16(l4[e.port():], port)
	all += d

	field := l4[min(6, len(l4)):]
	if m.Proto == packet.TCP {
		field = l4[min(16, len(l4)):]
	}
	if len(field) < 2 {
		return all
	}
	before := le16(field)
	if m.Proto == packet.TCP {
		applyDiff(field, d)
	} else {
		applyDiffUDP(field, d)
	}
	return all + packet.Diff16(before, le16(field))
}

// replaceOuter changes one end of the IP header and returns the difference that this makes to the
// ICMP checksum: none in IPv4, where that covers no pseudo-header.
func replaceOuter(mem []byte, m *packet.Meta, e side, a packet.Addr) packet.Diff {
	ip := mem[m.L3:]
	if m.Family == 6 {
		return putAddr6(ip[e.addr6():], a)
	}
	applyDiff(ip[10:], put32(ip[e.addr4():], a.V4()))
	return 0
}
