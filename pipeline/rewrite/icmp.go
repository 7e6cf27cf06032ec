package rewrite

import "sluice/pipeline/packet"

// An ICMP error about a translated packet names, in the packet that it embeds, what the other side of the
// translation has never heard of. So the embedded packet is translated back, together with the outer addresses.
// The outer addresses become what IPVS makes of them (ip_vs_core.c, ip_vs_nat_icmp); the embedded transport
// checksum follows as well, which IPVS leaves out and RFC 5508, 4.2 asks for.

// ICMPIn turns an ICMP error about a packet that the service sent into one about the packet that the backend had
// sent: embedded source and outer destination become the backend's.
func ICMPIn(mem []byte, m *packet.Meta, backend packet.Addr, port uint16) {
	var d packet.Sum
	d = replaceEmbedded(mem, m, source, backend, port, d)
	d = replaceOuter(mem, m, destination, backend, d)
	updateICMP(mem, m, d)
}

// ICMPOut turns an ICMP error about a packet that we sent to the backend into one about the packet that the client
// had sent to the service: embedded destination and outer source become the service's. The outer source does so
// even if the error comes from a router on the way to the backend, which clients need not know of.
func ICMPOut(mem []byte, m *packet.Meta, vip packet.Addr, port uint16) {
	var d packet.Sum
	d = replaceEmbedded(mem, m, destination, vip, port, d)
	d = replaceOuter(mem, m, source, vip, d)
	updateICMP(mem, m, d)
}

// ICMPBoth is ICMPIn and ICMPOut for full NAT: the embedded packet becomes one from src to dst, and the error goes
// from dst to src.
func ICMPBoth(mem []byte, m *packet.Meta, src packet.Addr, srcPort uint16, dst packet.Addr, dstPort uint16) {
	var d packet.Sum
	d = replaceEmbedded(mem, m, source, src, srcPort, d)
	d = replaceEmbedded(mem, m, destination, dst, dstPort, d)
	d = replaceOuter(mem, m, source, dst, d)
	d = replaceOuter(mem, m, destination, src, d)
	updateICMP(mem, m, d)
}

// replaceEmbedded changes one end of the embedded packet, with its checksums as far as they are there, and adds to
// d the difference that this makes to the ICMP message.
func replaceEmbedded(mem []byte, m *packet.Meta, e end, a packet.Addr, port uint16, d packet.Sum) packet.Sum {
	ip, l4 := mem[m.Inner:m.End], mem[m.InnerL4:m.End]
	var change packet.Sum // of what the embedded transport checksum covers
	if m.Family == 4 {
		before := be16(ip[10:])
		change = replaceAddr4(ip, e, a)
		d = d.Replace16(before, be16(ip[10:]))
	} else {
		change = replaceAddr6(ip, e, a)
	}
	change = change.Replace16(be16(l4[e.port():]), port)
	setBE16(l4[e.port():], port)
	d = d.Add(uint64(change))

	field := 6
	if m.Proto == packet.TCP {
		field = 16
	}
	if len(l4) < field+2 {
		return d
	}
	before := be16(l4[field:])
	after := change.UpdateUDP(before)
	if m.Proto == packet.TCP {
		after = change.Update(before)
	}
	setBE16(l4[field:], after)
	return d.Replace16(before, after)
}

// replaceOuter changes one end of the IP header and adds to d what this means for the ICMP checksum: nothing in
// IPv4, which has no pseudo-header there.
func replaceOuter(mem []byte, m *packet.Meta, e end, a packet.Addr, d packet.Sum) packet.Sum {
	change := replaceAddr(mem, m, e, a)
	if m.Family == 4 {
		return d
	}
	return d.Add(uint64(change))
}

func updateICMP(mem []byte, m *packet.Meta, d packet.Sum) {
	field := mem[m.L4+2:]
	setBE16(field, d.Update(be16(field)))
}
