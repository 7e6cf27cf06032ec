package packet

import (
	"encoding/binary"
	"math/bits"
)

// Headers is the start of a frame that may be an ordinary one: TCP or UDP over IPv4 or IPv6,
// without a tag, IP options or extension headers. All header fields are then at fixed offsets. Over
// IPv4 the array is longer than the headers.
//
// FastParse4 and FastParse6 report whether it is one. They check everything that Parse checks
// except for the addresses. Other methods than these, MaybeIPv4 and MaybeIPv6 may only be called
// after one of them has.
type Headers [EthernetLen + IPv6Len + TCPLen]byte

// FastKind is the result of a fast parse: the protocol of a packet, and whether it may change the
// state of its connection.
type FastKind uint8

// The kinds. Packets that may change the state of a connection are Opening or greater.
const (
	// NotFast is a packet that Parse must read.
	NotFast  FastKind = 0
	Segment  FastKind = TCP // ACK, and none of SYN, FIN, RST
	Datagram FastKind = UDP
	Opening  FastKind = TCP | 64  // SYN, and none of ACK, FIN, RST
	OtherTCP FastKind = TCP | 128 // all other valid flags
)

// Proto returns the IP protocol number.
func (g FastKind) Proto() uint8 { return uint8(g) & 63 }

// MaybeIPv4 reports whether FastParse4 may accept the frame.
func (h *Headers) MaybeIPv4() bool { return le32(h[12:])&0xffffff == 0x45_0008 }

// MaybeIPv6 reports whether FastParse6 may accept the frame.
func (h *Headers) MaybeIPv6() bool { return le32(h[12:])&0xf0ffff == 0x60_dd86 }

// FastParse4 returns the kind of an IPv4 packet. available is the number of bytes after the
// Ethernet header.
func (h *Headers) FastParse4(available int) FastKind {
	start, middle, ends := le64(h[14:]), le32(h[22:]), le64(h[26:])
	sum, carry := bits.Add64(start, ends, 0)
	sum, carry = bits.Add64(sum, uint64(middle), carry)
	sum += carry
	length := int(bits.ReverseBytes16(uint16(start >> 16)))
	// a fragment, corrupted, or truncated
	if start&(0xff3f<<48) != 0 || sum%0xffff != 0 || length > available {
		return NotFast
	}
	return fastParse((*[TCPLen]byte)(h[34:]), uint8(middle>>8), length-IPv4Len)
}

// FastParse6 is FastParse4 for IPv6.
func (h *Headers) FastParse6(available int) FastKind {
	length := int(be16(h[18:]))
	if length > available-IPv6Len {
		return NotFast
	}
	return fastParse((*[TCPLen]byte)(h[54:]), h[20], length)
}

// fastParse returns the kind by the transport header. length is that of the header and its payload,
// in bytes.
func fastParse(h *[TCPLen]byte, proto uint8, length int) FastKind {
	if proto == UDP {
		if udp := int(be16(h[4:])); udp < UDPLen || udp > length {
			return NotFast
		}
		return Datagram
	}
	word := be16(h[12:]) // data offset in words of four bytes, flags
	if header := int(word >> 12 * 4); proto != TCP || header < TCPLen || header > length {
		return NotFast
	}
	return fastKinds[word&31]
}

// fastKinds is the kind of a segment by its TCP flags.
var fastKinds = func() (g [32]FastKind) {
	for flags := range g {
		switch {
		case flags&(FIN|SYN|RST|ACK) == ACK:
			g[flags] = Segment
		case flags&(FIN|SYN|RST|ACK) == SYN && badFlags>>flags&1 == 0:
			g[flags] = Opening
		case badFlags>>flags&1 == 0:
			g[flags] = OtherTCP
		}
	}
	return g
}()

// Ends4 returns source and destination address of an IPv4 packet, and its ports: the source port
// and, in the lower half, the destination port.
func (h *Headers) Ends4() (src, dst, ports uint32) { return be32(h[26:]), be32(h[30:]), be32(h[34:]) }

// Ends6 is Ends4 for IPv6.
func (h *Headers) Ends6() (src, dst Addr, ports uint32) {
	return Addr{be64(h[22:]), be64(h[30:])}, Addr{be64(h[38:]), be64(h[46:])}, be32(h[54:])
}

// Length4 returns the length of an IPv4 packet, in bytes.
func (h *Headers) Length4() uint16 { return be16(h[16:]) }

// Length6 returns the length of an IPv6 packet, in bytes.
func (h *Headers) Length6() uint16 { return be16(h[18:]) + IPv6Len }

// TTL4 returns the TTL of an IPv4 packet.
func (h *Headers) TTL4() uint8 { return h[22] }

// TTL6 returns the hop limit of an IPv6 packet.
func (h *Headers) TTL6() uint8 { return h[21] }

// Proto4 returns the protocol of an IPv4 packet.
func (h *Headers) Proto4() uint8 { return h[23] }

// Proto6 returns the protocol of an IPv6 packet.
func (h *Headers) Proto6() uint8 { return h[20] }

// Parse4 is Parse for an IPv4 packet that FastParse4 has accepted. start is where the frame begins
// in its chunk. It reports whether the addresses are valid.
func (h *Headers) Parse4(start int, m *Meta) bool {
	src, dst, ports := h.Ends4()
	m.Src, m.Dst = AddrFrom4(src), AddrFrom4(dst)
	m.place(start, IPv4Len, h.Length4())
	m.Family, m.TTL, m.Proto = 4, h[22], h[23]
	m.transport(ports, h[47])
	return !Martian4(src, dst)
}

// Parse6 is Parse4 for IPv6.
func (h *Headers) Parse6(start int, m *Meta) bool {
	var ports uint32
	m.Src, m.Dst, ports = h.Ends6()
	m.place(start, IPv6Len, h.Length6())
	m.Family, m.TTL, m.Proto = 6, h[21], h[20]
	m.transport(ports, h[67])
	return !Martian6(m.Src, m.Dst)
}

// place sets the offsets of a packet in an untagged frame that begins at start.
func (m *Meta) place(start int, ipLen, length uint16) {
	m.L2, m.VLAN, m.L3 = uint16(start), 0, uint16(start+EthernetLen)
	m.L4, m.End = m.L3+ipLen, m.L3+length
	m.Inner, m.InnerL4, m.ICMPError, m.Part = 0, 0, false, Whole
}

// transport sets ports and TCP flags.
func (m *Meta) transport(ports uint32, flags uint8) {
	m.SrcPort, m.DstPort = uint16(ports>>16), uint16(ports)
	if m.TCPFlags = 0; m.Proto == TCP {
		m.TCPFlags = flags & (FIN | SYN | RST | PSH | ACK)
	}
}

func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }
