package rewrite

import "sluice/pipeline/packet"

// An ICMP error about a translated packet embeds the translated packet, which its receiver does not
// know. So the embedded packet is translated back, together with the outer addresses. The outer
// addresses become those that IPVS uses (ip_vs_core.c, ip_vs_nat_icmp). The embedded transport
// checksum is updated as well, which IPVS leaves out and RFC 5508, 4.2 asks for.

// side is one of the two ends of a packet. Its methods return the offsets of the address and port
// of that end in their headers.
type side int

const (
	source      side = 0
	destination side = 1
)

func (e side) addr4() int { return 12 + 4*int(e) }
func (e side) addr6() int { return 8 + 16*int(e) }
func (e side) port() int  { return 2 * int(e) }

// ICMPIn turns an ICMP error about a packet from the service into one about the packet that the
// backend had sent: embedded source and outer destination become the backend's.
func ICMPIn(mem []byte, m *packet.Meta, backend packet.Addr, port uint16) {
	d := replaceEmbedded(mem, m, source, backend, port)
	d += replaceOuter(mem, m, destination, backend)
	applyDiff(mem[m.L4+2:], d)
}

// ICMPOut turns an ICMP error about a packet to the backend into one about the packet that the
// client had sent to the service: embedded destination and outer source become the service's, the
// outer source even if the error comes from a router on the path to the backend.
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

// replaceEmbedded changes one end of the embedded packet, with those of its checksums that are
// present, and returns the difference to the ICMP message.
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

// replaceOuter changes one end of the IP header and returns the difference to the ICMP checksum:
// none in IPv4, which has no pseudo-header there.
func replaceOuter(mem []byte, m *packet.Meta, e side, a packet.Addr) packet.Diff {
	ip := mem[m.L3:]
	if m.Family == 6 {
		return putAddr6(ip[e.addr6():], a)
	}
	applyDiff(ip[10:], put32(ip[e.addr4():], a.V4()))
	return 0
}
