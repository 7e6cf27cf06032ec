package packet

import (
	"encoding/binary"
	"math/bits"
)

// Headers is the start of a frame that may be what nearly all are: TCP or UDP over IPv4 or IPv6,
// without a tag, IP options or extension headers. What a packet says stands at fixed places then.
// Over IPv4 there is some more behind the headers.
//
// A fast parse - FastParse4, FastParse6 - makes sure that it is one, with all that Parse asks but for the
// addresses. Until then nothing else may be asked.
type Headers [EthernetLen + IPv6Len + TCPLen]byte

// FastKind is what a fast parse tells of a packet: its protocol, and what is unusual about it.
type FastKind uint8

// What it may be. NotFast says that only Parse can tell. What isn't in the middle of its connection
// is the greatest.
const (
	NotFast  FastKind = 0
	Segment  FastKind = TCP // in the middle of a connection: ACK, and neither SYN, FIN nor RST
	Datagram FastKind = UDP
	Opening  FastKind = TCP | 64  // SYN, and neither ACK, FIN nor RST
	OtherTCP FastKind = TCP | 128 // any other of TCP
)

// Proto is the protocol's number.
func (g FastKind) Proto() uint8 { return uint8(g) & 63 }

// MaybeIPv4 says that FastParse4 is worth asking.
func (h *Headers) MaybeIPv4() bool { return le32(h[12:])&0xffffff == 0x45_0008 }

// MaybeIPv6 says that FastParse6 is worth asking.
func (h *Headers) MaybeIPv6() bool { return le32(h[12:])&0xf0ffff == 0x60_dd86 }

// FastParse4 tells what an IPv4 packet is for which there are so many bytes.
func (h *Headers) FastParse4(room int) FastKind {
	start, middle, ends := le64(h[14:]), le32(h[22:]), le64(h[26:])
	sum, carry := bits.Add64(start, ends, 0)
	sum, carry = bits.Add64(sum, uint64(middle), carry)
	sum += carry
	length := int(bits.ReverseBytes16(uint16(start >> 16)))
	if start&(0xff3f<<48) != 0 || sum%0xffff != 0 || length > room { // a fragment, corrupted, or cut
		return NotFast
	}
	return fastParse((*[TCPLen]byte)(h[34:]), uint8(middle>>8), length-IPv4Len)
}

// FastParse6 is FastParse4 for IPv6.
func (h *Headers) FastParse6(room int) FastKind {
	length := int(be16(h[18:]))
	if length > room-IPv6Len {
		return NotFast
	}
	return fastParse((*[TCPLen]byte)(h[54:]), h[20], length)
}

// fastParse looks at a transport header, of which there are so many bytes, payload included.
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

// fastKinds is by TCP flags.
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

// Ends4 gives an IPv4 packet's source and destination, and its ports: the source's and, in the
// lower half, the destination's.
func (h *Headers) Ends4() (src, dst, ports uint32) { return be32(h[26:]), be32(h[30:]), be32(h[34:]) }

// Ends6 is Ends4 for IPv6.
func (h *Headers) Ends6() (src, dst Addr, ports uint32) {
	return Addr{be64(h[22:]), be64(h[30:])}, Addr{be64(h[38:]), be64(h[46:])}, be32(h[54:])
}

// Length4 is the length of an IPv4 packet, in bytes.
func (h *Headers) Length4() uint16 { return be16(h[16:]) }

// Length6 is the length of an IPv6 packet, in bytes.
func (h *Headers) Length6() uint16 { return be16(h[18:]) + IPv6Len }

// TTL4 is the TTL of an IPv4 packet.
func (h *Headers) TTL4() uint8 { return h[22] }

// TTL6 is the hop limit of an IPv6 packet.
func (h *Headers) TTL6() uint8 { return h[21] }

// Proto4 is the protocol of an IPv4 packet.
func (h *Headers) Proto4() uint8 { return h[23] }

// Proto6 is the protocol of an IPv6 packet.
func (h *Headers) Proto6() uint8 { return h[20] }

// Parse4 is Parse for an IPv4 packet after a fast parse: start is where its frame begins. It reports
// whether it may have the addresses that it has.
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

// place notes where what is of a packet, in an untagged frame that begins at start.
func (m *Meta) place(start int, ipLen, length uint16) {
	m.L2, m.VLAN, m.L3 = uint16(start), 0, uint16(start+EthernetLen)
	m.L4, m.End = m.L3+ipLen, m.L3+length
	m.Inner, m.InnerL4, m.ICMPError = 0, 0, false
}

func (m *Meta) transport(ports uint32, flags uint8) {
	m.SrcPort, m.DstPort = uint16(ports>>16), uint16(ports)
	if m.TCPFlags = 0; m.Proto == TCP {
		m.TCPFlags = flags & (FIN | SYN | RST | PSH | ACK)
	}
}

func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }
