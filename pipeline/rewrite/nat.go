package rewrite

import "sluice/pipeline/packet"

// end is one of the two ends of a packet: it says where in the headers that end's address and port are.
type end int

const (
	source      end = 0
	destination end = 1
)

func (e end) addr4() int { return 12 + 4*int(e) }
func (e end) addr6() int { return 8 + 16*int(e) }
func (e end) port() int  { return 2 * int(e) }

// NATIn turns a client's packet to the service into one to the backend: destination address and port change.
// dst is of the packet's family.
func NATIn(mem []byte, m *packet.Meta, dst packet.Addr, port uint16) {
	replace(mem, m, destination, dst, port)
}

// NATOut turns a backend's packet into one from the service: source address and port change. src is of the
// packet's family.
func NATOut(mem []byte, m *packet.Meta, src packet.Addr, port uint16) {
	replace(mem, m, source, src, port)
}

// NATBoth changes both ends of a packet (full NAT). Both addresses are of the packet's family.
func NATBoth(mem []byte, m *packet.Meta, src packet.Addr, srcPort uint16, dst packet.Addr, dstPort uint16) {
	replace(mem, m, source, src, srcPort)
	replace(mem, m, destination, dst, dstPort)
}

// replace changes address and port of one end of the packet.
func replace(mem []byte, m *packet.Meta, e end, a packet.Addr, port uint16) {
	d := replaceAddr(mem, m, e, a)
	l4 := mem[m.L4:]
	d = d.Replace16(be16(l4[e.port():]), port)
	setBE16(l4[e.port():], port)
	if m.Proto == packet.TCP {
		setBE16(l4[16:], d.Update(be16(l4[16:])))
		return
	}
	setBE16(l4[6:], d.UpdateUDP(be16(l4[6:])))
}

// replaceAddr changes the address of one end in the outermost IP header, with the header's checksum, and returns
// the difference that this makes to the pseudo-header.
func replaceAddr(mem []byte, m *packet.Meta, e end, a packet.Addr) packet.Sum {
	if m.Family == 4 {
		return replaceAddr4(mem[m.L3:], e, a)
	}
	return replaceAddr6(mem[m.L3:], e, a)
}

func replaceAddr4(ip []byte, e end, a packet.Addr) packet.Sum {
	field := ip[e.addr4():]
	d := packet.Sum(0).Replace32(be32(field), a.V4())
	setBE32(field, a.V4())
	setBE16(ip[10:], d.Update(be16(ip[10:])))
	return d
}

func replaceAddr6(ip []byte, e end, a packet.Addr) packet.Sum {
	field := ip[e.addr6():][:16]
	d := packet.Sum(0).ReplaceAddr(packet.Addr{Hi: be64(field), Lo: be64(field[8:])}, a)
	setBE64(field, a.Hi)
	setBE64(field[8:], a.Lo)
	return d
}
