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

// Link4 and Link6 are DecTTL and SetLink: all that direct routing does.
func (l *Link) DR4(h *packet.Headers) {
	l.Address(h)
	h[22]--
	sum := uint32(be16(h[24:])) + 0x0100
	setBE16(h[24:], uint16(sum+(sum+1)>>16))
}

// DR6 is DR4 for IPv6.
func (l *Link) DR6(h *packet.Headers) {
	l.Address(h)
	h[21]--
}

// Address is SetLink.
func (l *Link) Address(h *packet.Headers) { *(*[12]byte)(h[:]) = *l.macs() }
