package packet

import "sluice/pipeline/counter"

// refuse4 returns what is wrong with a header that is not 20 bytes long, or with its total length.
// ip has at least 20 bytes.
func refuse4(ip []byte, total int) counter.Reason {
	version, length := ip[0]>>4, int(ip[0]&15)*4
	switch {
	case version != 4 || length < IPv4Len || total < length:
		return counter.BadIPHeader
	case total > len(ip):
		return counter.Short
	case Sum(0).Bytes(ip[:length]).Fold() != 0xffff:
		return counter.BadIPChecksum
	}
	return counter.IPOptions
}

// parseICMP4 reads an ICMP error (RFC 792) and the start of the packet that it embeds.
func parseICMP4(seg []byte, m *Meta) counter.Reason {
	if len(seg) < ICMPLen {
		return counter.BadICMP
	}
	switch seg[0] {
	case 3, 4, 11, 12: // unreachable, source quench, time exceeded, parameter problem
	default:
		return counter.UnknownProtocol
	}
	ip := seg[ICMPLen:]
	if len(ip) < IPv4Len {
		return counter.BadICMP
	}
	version, length, proto := ip[0]>>4, int(ip[0]&15)*4, ip[9]
	if version != 4 || length < IPv4Len || len(ip) < length+8 {
		return counter.BadICMP
	}
	if proto != TCP && proto != UDP || be16(ip[6:])&0x1fff != 0 {
		return counter.BadICMP
	}
	m.Src, m.Dst = AddrFrom4(be32(ip[12:])), AddrFrom4(be32(ip[16:]))
	embedded(m, length, proto, ip[length:])
	return counter.None
}

// embedded records that the frame is an ICMP error about the packet with an IP header of length
// bytes after the ICMP header, and with the transport header at the start of seg, which has at
// least 8 bytes.
func embedded(m *Meta, length int, proto uint8, seg []byte) {
	m.Inner = m.L4 + ICMPLen
	m.InnerL4 = m.Inner + uint16(length)
	m.SrcPort, m.DstPort = be16(seg), be16(seg[2:])
	m.Proto, m.ICMPError = proto, true
}
