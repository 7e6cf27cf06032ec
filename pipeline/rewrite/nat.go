package rewrite

import "sluice/pipeline/packet"

// NATIn and NATOut are the same for the two ends of a packet. They are written out, with offsets that the compiler
// knows, because every packet of every NAT connection comes through here.

// NATIn turns a client's packet to the service into one to the backend: destination address and port change.
// dst is of the packet's family.
func NATIn(mem []byte, m *packet.Meta, dst packet.Addr, port uint16) {
	var d packet.Diff // of what the transport checksum covers
	if m.Family == 4 {
		ip := (*[packet.IPv4Len]byte)(mem[m.L3:])
		d = put32(ip[16:], dst.V4())
		fix(ip[10:], d)
	} else {
		ip := (*[packet.IPv6Len]byte)(mem[m.L3:])
		d = putAddr6(ip[24:], dst)
	}
	if m.Proto == packet.TCP {
		tcp := (*[packet.TCPLen]byte)(mem[m.L4:])
		d += put16(tcp[2:], port)
		fix(tcp[16:], d)
		return
	}
	udp := (*[packet.UDPLen]byte)(mem[m.L4:])
	d += put16(udp[2:], port)
	fixUDP(udp[6:], d)
}

// NATOut turns a backend's packet into one from the service: source address and port change. src is of the
// packet's family.
func NATOut(mem []byte, m *packet.Meta, src packet.Addr, port uint16) {
	var d packet.Diff
	if m.Family == 4 {
		ip := (*[packet.IPv4Len]byte)(mem[m.L3:])
		d = put32(ip[12:], src.V4())
		fix(ip[10:], d)
	} else {
		ip := (*[packet.IPv6Len]byte)(mem[m.L3:])
		d = putAddr6(ip[8:], src)
	}
	if m.Proto == packet.TCP {
		tcp := (*[packet.TCPLen]byte)(mem[m.L4:])
		d += put16(tcp[0:], port)
		fix(tcp[16:], d)
		return
	}
	udp := (*[packet.UDPLen]byte)(mem[m.L4:])
	d += put16(udp[0:], port)
	fixUDP(udp[6:], d)
}

// NATBoth changes both ends of a packet (full NAT). Both addresses are of the packet's family.
func NATBoth(mem []byte, m *packet.Meta, src packet.Addr, srcPort uint16, dst packet.Addr, dstPort uint16) {
	NATOut(mem, m, src, srcPort)
	NATIn(mem, m, dst, dstPort)
}
