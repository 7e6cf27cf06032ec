package rewrite

import (
	"encoding/binary"
	"math/bits"

	"sluice/pipeline/packet"
)

// What NAT does to the packets of one service and one backend is the same for all of them, so that half of the work can
// be done beforehand. What is prepared is for headers that packet.Headers can describe, and for links without a tag.
// Like the rest of this package it lowers the TTL, which the caller has made sure is above 1.

// End is an address and port to write over one end of a packet, and what that does to the checksums: all as it stands in
// a frame, read in little endian, for the reason that NATIn's file gives.
type End struct {
	addr      [2]uint64 // of IPv4 the first four bytes count
	port      uint16
	ip        uint16 // by how much the sum of the IPv4 header grows, TTL included
	transport uint16 // by how much the sum of the pseudo-header and all behind it grows
}

// NewEnd prepares for packets that have the old address and port at that end. Both addresses are of one family.
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
	e.finish4(h, tcp)
}

// Out4 is NATOut for IPv4.
func (e *End) Out4(h *packet.Headers, tcp bool) {
	binary.LittleEndian.PutUint32(h[26:], uint32(e.addr[0]))
	binary.LittleEndian.PutUint16(h[34:], e.port)
	e.finish4(h, tcp)
}

func (e *End) finish4(h *packet.Headers, tcp bool) {
	h[22]--
	grow(h[24:], e.ip)
	if tcp {
		grow(h[50:], e.transport)
	} else {
		growUDP(h[40:], e.transport)
	}
}

// In6 is NATIn for IPv6.
func (e *End) In6(h *packet.Headers, tcp bool) {
	binary.LittleEndian.PutUint64(h[38:], e.addr[0])
	binary.LittleEndian.PutUint64(h[46:], e.addr[1])
	binary.LittleEndian.PutUint16(h[56:], e.port)
	e.finish6(h, tcp)
}

// Out6 is NATOut for IPv6.
func (e *End) Out6(h *packet.Headers, tcp bool) {
	binary.LittleEndian.PutUint64(h[22:], e.addr[0])
	binary.LittleEndian.PutUint64(h[30:], e.addr[1])
	binary.LittleEndian.PutUint16(h[54:], e.port)
	e.finish6(h, tcp)
}

func (e *End) finish6(h *packet.Headers, tcp bool) {
	h[21]--
	if tcp {
		grow(h[70:], e.transport)
	} else {
		growUDP(h[60:], e.transport)
	}
}

// grow is fix for a difference that is folded already.
func grow(b []byte, by uint16) {
	sum := uint32(^le16(b)) + uint32(by)
	binary.LittleEndian.PutUint16(b, ^uint16(sum+sum>>16))
}

// growUDP is fixUDP likewise.
func growUDP(b []byte, by uint16) {
	if le16(b) == 0 {
		return
	}
	if grow(b, by); le16(b) == 0 {
		binary.LittleEndian.PutUint16(b, 0xffff)
	}
}

// DR4 is DecTTL and SetLink for IPv4: all that direct routing does.
func (l *Link) DR4(h *packet.Headers) {
	l.Address(h)
	decTTL4(h)
}

// DR6 is DR4 for IPv6.
func (l *Link) DR6(h *packet.Headers) {
	l.Address(h)
	h[21]--
}

func decTTL4(h *packet.Headers) {
	h[22]--
	sum := uint32(be16(h[24:])) + 0x0100
	setBE16(h[24:], uint16(sum+(sum+1)>>16))
}

// Address is SetLink.
func (l *Link) Address(h *packet.Headers) { *(*[12]byte)(h[:]) = *l.macs() }

// Tunnel is the outer header of a tunnel, as far as it is the same for all packets.
type Tunnel struct {
	ends  [4]uint64 // addresses as they stand in the header; of IPv4 both are in the first word
	sum   uint16    // of an IPv4 header's version, header length and addresses
	outer uint8     // family
}

// NewTunnel prepares the tunnel from src to dst, which are of one family.
func NewTunnel(src, dst packet.Addr) Tunnel {
	if dst.Is4() {
		ends := uint64(bits.ReverseBytes32(dst.V4()))<<32 | uint64(bits.ReverseBytes32(src.V4()))
		return Tunnel{ends: [4]uint64{ends}, sum: packet.Sum(ends).Add(0x45).Fold(), outer: 4}
	}
	s, d := reversed(src), reversed(dst)
	return Tunnel{ends: [4]uint64{s.Hi, s.Lo, d.Hi, d.Lo}, outer: 6}
}

// Wrap4 is DecTTL, Encap and SetLink for an IPv4 packet of so many bytes, whose frame begins at start with h. It returns
// the frame's new start. id is the outer header's identification, as it stands there.
func (t *Tunnel) Wrap4(mem []byte, start int, h *packet.Headers, length, id uint16, l *Link) int {
	decTTL4(h)
	if t.outer == 6 {
		return t.wrap6(mem, start, length, h[15], packet.IPIP, h[22], l)
	}
	return t.wrap4(mem, start, length, h[15], h[20]&0x40, packet.IPIP, h[22], id, l)
}

// Wrap6 is Wrap4 for an IPv6 packet.
func (t *Tunnel) Wrap6(mem []byte, start int, h *packet.Headers, length, id uint16, l *Link) int {
	h[21]--
	tos := h[14]<<4 | h[15]>>4
	if t.outer == 6 {
		return t.wrap6(mem, start, length, tos, packet.IPv6, h[21], l)
	}
	return t.wrap4(mem, start, length, tos, 0x40, packet.IPv6, h[21], id, l)
}

// wrap4 puts an IPv4 header before a packet, and an Ethernet header before that. df is the flag, in its place in a byte.
func (t *Tunnel) wrap4(mem []byte, start int, length uint16, tos, df, proto, ttl uint8, id uint16, l *Link) int {
	start -= packet.IPv4Len
	h := packet.EthernetV4(mem, start)
	*(*[12]byte)(h[:]) = *l.macs()
	total := bits.ReverseBytes16(length + packet.IPv4Len)
	idFlags, ttlProto := uint32(df)<<16|uint32(id), uint32(proto)<<8|uint32(ttl)
	sum := uint32(t.sum) + uint32(tos)<<8 + uint32(total) + idFlags>>16 + uint32(id) + ttlProto
	sum = sum&0xffff + sum>>16
	binary.LittleEndian.PutUint32(h[12:], 0x45_0008|uint32(tos)<<24)
	binary.LittleEndian.PutUint16(h[16:], total)
	binary.LittleEndian.PutUint32(h[18:], idFlags)
	binary.LittleEndian.PutUint32(h[22:], uint32(^uint16(sum+sum>>16))<<16|ttlProto)
	binary.LittleEndian.PutUint64(h[26:], t.ends[0])
	return start
}

// wrap6 is wrap4 with an IPv6 header.
func (t *Tunnel) wrap6(mem []byte, start int, length uint16, tos, proto, hops uint8, l *Link) int {
	start -= packet.IPv6Len
	h := packet.EthernetV6(mem, start)
	*(*[12]byte)(h[:]) = *l.macs()
	setBE16(h[12:], packet.EtherTypeIPv6)
	setBE64(h[14:], 6<<60|uint64(tos)<<52|uint64(length)<<16|uint64(proto)<<8|uint64(hops))
	for i := range t.ends {
		binary.LittleEndian.PutUint64(h[22+8*i:], t.ends[i])
	}
	return start
}
