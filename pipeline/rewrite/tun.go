package rewrite

import "sluice/pipeline/packet"

// Encap puts the packet into an outer IP packet from src to dst, which are of one family: 4in4 (RFC
// 2003), 6in4 (RFC 4213), 4in6 and 6in6 (RFC 2473). The outer header takes 20 bytes (IPv4) or 40
// bytes (IPv6) in front of m.L3, and the EtherType the two before it; they overwrite the link
// header, so SetLink must follow. The packet itself is not changed.
//
// As with IPVS, the outer TTL is the inner one (so it must be lowered first), and the whole type of
// service or traffic class with its ECN bits is copied, as is DF. An IPv6 packet may not be
// fragmented, so 6in4 has DF set, which IPVS leaves 0. id is the IPv4 identification, which is only
// relevant without DF. The IPv6 flow label is 0.
//
// Afterwards m.L3 and m.Family are those of the outer header; m.L4 and everything else are still
// those of the packet.
func Encap(mem []byte, m *packet.Meta, src, dst packet.Addr, id uint16) {
	inner := mem[m.L3:m.End]
	proto, tos, flags := uint64(packet.IPIP), inner[1], uint64(inner[6]&0x40)<<8
	if m.Family == 6 {
		proto, tos, flags = packet.IPv6, inner[0]<<4|inner[1]>>4, 0x4000
	}
	length := uint64(len(inner))
	if !dst.Is4() {
		m.L3 -= packet.IPv6Len
		m.Family = 6
		setBE16(mem[m.L3-2:], packet.EtherTypeIPv6)
		putIPv6(mem[m.L3:], tos, length, proto, m.TTL, src, dst)
		return
	}
	m.L3 -= packet.IPv4Len
	m.Family = 4
	setBE16(mem[m.L3-2:], packet.EtherTypeIPv4)
	putIPv4(mem[m.L3:], tos, length, uint64(id)<<16|flags, proto, m.TTL, src, dst)
}

// putIPv4 writes an IPv4 header without options for a payload of the given length. idFlags has
// identification, flags and fragment offset, as in the header.
func putIPv4(b []byte, tos uint8, length, idFlags, proto uint64, ttl uint8, src, dst packet.Addr) {
	h := (*[packet.IPv4Len]byte)(b)
	first := 0x45<<56 | uint64(tos)<<48 | (length+packet.IPv4Len)<<32 | idFlags
	second := uint64(ttl)<<56 | proto<<48 | uint64(src.V4())
	sum := packet.Sum(first).Add(second).Add(uint64(dst.V4()))
	setBE64(h[0:], first)
	setBE64(h[8:], second|uint64(sum.Checksum())<<32)
	setBE32(h[16:], dst.V4())
}

// putIPv6 writes an IPv6 header with flow label 0 for a payload of the given length.
func putIPv6(b []byte, tos uint8, length, proto uint64, ttl uint8, src, dst packet.Addr) {
	h := (*[packet.IPv6Len]byte)(b)
	setBE64(h[0:], 6<<60|uint64(tos)<<52|length<<16|proto<<8|uint64(ttl))
	setBE64(h[8:], src.Hi)
	setBE64(h[16:], src.Lo)
	setBE64(h[24:], dst.Hi)
	setBE64(h[32:], dst.Lo)
}
