package rewrite

import (
	"encoding/binary"
	"math/bits"

	"sluice/pipeline/packet"
)

// NAT makes the same change to all packets between one service and one backend, so half of the work
// can be done beforehand. The functions of this file are for headers that FastParse4 or FastParse6
// has accepted and for untagged links. They lower the TTL or hop limit, which the caller has made
// sure is above 1.

// End is an address and port to write to one end of a packet, and the difference to the checksums:
// all as in a frame, read in little endian (see nat.go).
type End struct {
	addr      [2]uint64 // of an IPv4 address, the first four bytes
	port      uint16
	ip        uint16 // difference to the sum of the IPv4 header, TTL included
	transport uint16 // difference to the sum of pseudo-header, transport header and payload
}

// NewEnd returns the End for packets with the old address and port at that end. Both addresses are
// of one family.
func NewEnd(old packet.Addr, oldPort uint16, addr packet.Addr, port uint16) End {
	e := End{port: bits.ReverseBytes16(port)}
	change := packet.Diff16(bits.ReverseBytes16(oldPort), e.port)
	if addr.Is4() {
		was, is := bits.ReverseBytes32(old.V4()), bits.ReverseBytes32(addr.V4())
		e.addr[0] = uint64(is)
		d := packet.Diff32(was, is)
		e.ip = packet.Sum(d + ttlFell).Fold()
		e.transport = packet.Sum(d + change).Fold()
		return e
	}
	was, is := reversed(old), reversed(addr)
	e.addr = [2]uint64{is.Hi, is.Lo}
	e.transport = packet.Sum(packet.DiffAddr(was, is) + change).Fold()
	return e
}

func reversed(a packet.Addr) packet.Addr {
	return packet.Addr{Hi: bits.ReverseBytes64(a.Hi), Lo: bits.ReverseBytes64(a.Lo)}
}

// In4 is NATIn for IPv4.
func (e *End) In4(h *packet.Headers, tcp bool) {
	binary.LittleEndian.PutUint32(h[30:], uint32(e.addr[0]))
	binary.LittleEndian.PutUint16(h[36:], e.port)
	finish4(h, e.ip, e.transport, tcp)
}

// Out4 is NATOut for IPv4.
func (e *End) Out4(h *packet.Headers, tcp bool) {
	binary.LittleEndian.PutUint32(h[26:], uint32(e.addr[0]))
	binary.LittleEndian.PutUint16(h[34:], e.port)
	finish4(h, e.ip, e.transport, tcp)
}

// Both4 is NATBoth for a client's packet: In4, and another source, which cannot be prepared.
func (e *End) Both4(h *packet.Headers, src uint32, port uint16, tcp bool) {
	d := put32(h[26:], src)
	binary.LittleEndian.PutUint32(h[30:], uint32(e.addr[0]))
	ip := packet.Sum(d + packet.Diff(e.ip)).Fold()
	d += put16(h[34:], port)
	binary.LittleEndian.PutUint16(h[36:], e.port)
	finish4(h, ip, packet.Sum(d+packet.Diff(e.transport)).Fold(), tcp)
}

// Back4 is NATBoth for a backend's packet: Out4, and another destination, which cannot be prepared.
func (e *End) Back4(h *packet.Headers, dst uint32, port uint16, tcp bool) {
	d := put32(h[30:], dst)
	binary.LittleEndian.PutUint32(h[26:], uint32(e.addr[0]))
	ip := packet.Sum(d + packet.Diff(e.ip)).Fold()
	d += put16(h[36:], port)
	binary.LittleEndian.PutUint16(h[34:], e.port)
	finish4(h, ip, packet.Sum(d+packet.Diff(e.transport)).Fold(), tcp)
}

// finish4 lowers the TTL and applies the differences to the checksums of the IPv4 and the transport
// header.
func finish4(h *packet.Headers, ip, transport uint16, tcp bool) {
	h[22]--
	applyFolded(h[24:], ip)
	if tcp {
		applyFolded(h[50:], transport)
	} else {
		applyFoldedUDP(h[40:], transport)
	}
}

// In6 is NATIn for IPv6.
func (e *End) In6(h *packet.Headers, tcp bool) {
	binary.LittleEndian.PutUint64(h[38:], e.addr[0])
	binary.LittleEndian.PutUint64(h[46:], e.addr[1])
	binary.LittleEndian.PutUint16(h[56:], e.port)
	finish6(h, e.transport, tcp)
}

// Out6 is NATOut for IPv6.
func (e *End) Out6(h *packet.Headers, tcp bool) {
	binary.LittleEndian.PutUint64(h[22:], e.addr[0])
	binary.LittleEndian.PutUint64(h[30:], e.addr[1])
	binary.LittleEndian.PutUint16(h[54:], e.port)
	finish6(h, e.transport, tcp)
}

// Both6 is Both4 for IPv6.
func (e *End) Both6(h *packet.Headers, src packet.Addr, port uint16, tcp bool) {
	d := putAddr6(h[22:], src) + put16(h[54:], port)
	binary.LittleEndian.PutUint64(h[38:], e.addr[0])
	binary.LittleEndian.PutUint64(h[46:], e.addr[1])
	binary.LittleEndian.PutUint16(h[56:], e.port)
	finish6(h, packet.Sum(d+packet.Diff(e.transport)).Fold(), tcp)
}

// Back6 is Back4 for IPv6.
func (e *End) Back6(h *packet.Headers, dst packet.Addr, port uint16, tcp bool) {
	d := putAddr6(h[38:], dst) + put16(h[56:], port)
	binary.LittleEndian.PutUint64(h[22:], e.addr[0])
	binary.LittleEndian.PutUint64(h[30:], e.addr[1])
	binary.LittleEndian.PutUint16(h[54:], e.port)
	finish6(h, packet.Sum(d+packet.Diff(e.transport)).Fold(), tcp)
}

// finish6 is finish4 for IPv6.
func finish6(h *packet.Headers, transport uint16, tcp bool) {
	h[21]--
	if tcp {
		applyFolded(h[70:], transport)
	} else {
		applyFoldedUDP(h[60:], transport)
	}
}

// applyFolded is applyDiff for a folded difference.
func applyFolded(b []byte, by uint16) {
	sum := uint32(^le16(b)) + uint32(by)
	binary.LittleEndian.PutUint16(b, ^uint16(sum+sum>>16))
}

// applyFoldedUDP is applyDiffUDP for a folded difference.
func applyFoldedUDP(b []byte, by uint16) {
	if le16(b) == 0 {
		return
	}
	if applyFolded(b, by); le16(b) == 0 {
		binary.LittleEndian.PutUint16(b, 0xffff)
	}
}

// DR4 is DecTTL and SetLink for IPv4: all that direct routing does.
func (l *Link) DR4(h *packet.Headers) {
	l.Apply(h)
	decTTL4(h)
}

// DR6 is DR4 for IPv6.
func (l *Link) DR6(h *packet.Headers) {
	l.Apply(h)
	h[21]--
}

// decTTL4 lowers the TTL and updates the checksum: one word has both.
func decTTL4(h *packet.Headers) {
	word := uint64(le32(h[22:])) + 1<<16 - 1
	binary.LittleEndian.PutUint32(h[22:], uint32(word+(word+1<<16)>>32<<16))
}

// Apply is SetLink for an untagged link.
func (l *Link) Apply(h *packet.Headers) { *(*[12]byte)(h[:]) = *l.macs() }

// Tunnel is the part of a tunnel's outer header that is the same for all packets.
type Tunnel struct {
	ends  [4]uint64 // addresses, as in the header; both IPv4 addresses are in the first word
	sum   uint16    // of the addresses of an IPv4 header
	outer uint8     // family
}

// NewTunnel returns the tunnel from src to dst, which are of one family.
func NewTunnel(src, dst packet.Addr) Tunnel {
	if dst.Is4() {
		ends := uint64(bits.ReverseBytes32(dst.V4()))<<32 | uint64(bits.ReverseBytes32(src.V4()))
		return Tunnel{ends: [4]uint64{ends}, sum: packet.Sum(ends).Fold(), outer: 4}
	}
	s, d := reversed(src), reversed(dst)
	return Tunnel{ends: [4]uint64{s.Hi, s.Lo, d.Hi, d.Lo}, outer: 6}
}

// Wrap4 is DecTTL, Encap and SetLink for an IPv4 packet of length bytes. Its frame begins with h,
// at start of its chunk. id is the identification of the outer header, in network byte order. It
// returns the frame's new start.
func (t *Tunnel) Wrap4(h *packet.Headers, start int, length, id uint16, l *Link) int {
	decTTL4(h)
	if t.outer == 6 {
		return t.wrap6(h, start, length, h[15], packet.IPIP, h[22], l)
	}
	first := le64(h[14:])&(flagDF|typeOfService) | first4(length, id)
	t.put4(outer4(h, start), first, t.second4(first, packet.IPIP, h[22]), l)
	return start - packet.IPv4Len
}

// Wrap6 is Wrap4 for an IPv6 packet.
func (t *Tunnel) Wrap6(h *packet.Headers, start int, length, id uint16, l *Link) int {
	h[21]--
	tos := h[14]<<4 | h[15]>>4
	if t.outer == 6 {
		return t.wrap6(h, start, length, tos, packet.IPv6, h[21], l)
	}
	first := flagDF | uint64(tos)<<8 | first4(length, id)
	t.put4(outer4(h, start), first, t.second4(first, packet.IPv6, h[21]), l)
	return start - packet.IPv4Len
}

// What an outer IPv4 header copies from the inner one: masks of the first eight bytes, in little
// endian.
const (
	typeOfService = 0xff << 8
	flagDF        = 0x40 << 48
)

// first4 returns the other parts of the first eight bytes of the outer header of an inner packet of
// length bytes.
func first4(length, id uint16) uint64 {
	return 0x45 | uint64(bits.ReverseBytes16(length+packet.IPv4Len))<<16 | uint64(id)<<32
}

// second4 returns the next four bytes of an outer header: TTL, protocol and checksum.
func (t *Tunnel) second4(first uint64, proto, ttl uint8) uint32 {
	ttlProto := uint32(proto)<<8 | uint32(ttl)
	return uint32(packet.Sum(first).Add(uint64(ttlProto+uint32(t.sum))).Checksum())<<16 | ttlProto
}

// put4 writes an Ethernet and an IPv4 header.
func (t *Tunnel) put4(h *[packet.EthernetLen + packet.IPv4Len]byte, first uint64, second uint32, l *Link) {
	*(*[12]byte)(h[:]) = *l.macs()
	binary.LittleEndian.PutUint16(h[12:], 0x0008)
	binary.LittleEndian.PutUint64(h[14:], first)
	binary.LittleEndian.PutUint32(h[22:], second)
	binary.LittleEndian.PutUint64(h[26:], t.ends[0])
}

// wrap6 writes an Ethernet and an IPv6 header in front of a packet. It returns the new start.
func (t *Tunnel) wrap6(h *packet.Headers, start int, length uint16, tos, proto, hops uint8, l *Link) int {
	o := outer6(h, start)
	*(*[12]byte)(o[:]) = *l.macs()
	setBE16(o[12:], packet.EtherTypeIPv6)
	setBE64(o[14:], 6<<60|uint64(tos)<<52|uint64(length)<<16|uint64(proto)<<8|uint64(hops))
	for i := range t.ends {
		binary.LittleEndian.PutUint64(o[22+8*i:], t.ends[i])
	}
	return start - packet.IPv6Len
}
