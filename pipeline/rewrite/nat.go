package rewrite

import (
	"encoding/binary"
	"math/bits"

	"sluice/pipeline/packet"
)

// Every packet of every NAT connection comes through here, so the functions for the two ends of a
// packet are written out, with offsets that the compiler knows, and what they change in one header
// is folded into its checksum in one go. They lower the TTL or hop limit as DecTTL does; the caller
// has made sure that it is above 1.
//
// Checksums are followed in the machine's byte order, little endian: swapping the bytes of all
// words swaps the bytes of their ones' complement sum and changes nothing else (RFC 1071, 2 (B)).
// It spares swapping back and forth. The word of TTL and protocol, whose low byte is then the TTL,
// falls by 1: a difference of -1.
const ttlFell packet.Diff = 0xfffe

// NATIn turns a client's packet to the service into one to the backend: destination address and
// port change. dst is of the packet's family.
func NATIn(mem []byte, m *packet.Meta, dst packet.Addr, port uint16) {
	m.TTL--
	if m.Family != 4 {
		natIn6(mem, m, dst, port)
		return
	}
	if m.Proto == packet.TCP {
		h := packet.V4TCP(mem, m.L3)
		d := put32(h[16:], dst.V4())
		h[8] = m.TTL
		applyDiff(h[10:], d+ttlFell)
		d += put16(h[22:], port)
		applyDiff(h[36:], d)
		return
	}
	h := packet.V4UDP(mem, m.L3)
	d := put32(h[16:], dst.V4())
	h[8] = m.TTL
	applyDiff(h[10:], d+ttlFell)
	d += put16(h[22:], port)
	applyDiffUDP(h[26:], d)
}

func natIn6(mem []byte, m *packet.Meta, dst packet.Addr, port uint16) {
	ip := packet.V6(mem, m.L3)
	ip[7] = m.TTL
	d := putAddr6(ip[24:], dst)
	l4 := mem[m.L4:]
	d += put16(l4[2:], port)
	applyDiffTransport(l4, m.Proto, d)
}

// NATOut turns a backend's packet into one from the service: source address and port change. src is
// of the packet's family.
func NATOut(mem []byte, m *packet.Meta, src packet.Addr, port uint16) {
	m.TTL--
	if m.Family != 4 {
		natOut6(mem, m, src, port)
		return
	}
	if m.Proto == packet.TCP {
		h := packet.V4TCP(mem, m.L3)
		d := put32(h[12:], src.V4())
		h[8] = m.TTL
		applyDiff(h[10:], d+ttlFell)
		d += put16(h[20:], port)
		applyDiff(h[36:], d)
		return
	}
	h := packet.V4UDP(mem, m.L3)
	d := put32(h[12:], src.V4())
	h[8] = m.TTL
	applyDiff(h[10:], d+ttlFell)
	d += put16(h[20:], port)
	applyDiffUDP(h[26:], d)
}

func natOut6(mem []byte, m *packet.Meta, src packet.Addr, port uint16) {
	ip := packet.V6(mem, m.L3)
	ip[7] = m.TTL
	d := putAddr6(ip[8:], src)
	l4 := mem[m.L4:]
	d += put16(l4[0:], port)
	applyDiffTransport(l4, m.Proto, d)
}

// NATBoth changes both ends of a packet (full NAT). Both addresses are of the packet's family.
func NATBoth(mem []byte, m *packet.Meta, src packet.Addr, srcPort uint16, dst packet.Addr, dstPort uint16) {
	m.TTL--
	var d packet.Diff
	if m.Family == 4 {
		ip := packet.V4(mem, m.L3)
		d = put32(ip[12:], src.V4()) + put32(ip[16:], dst.V4())
		ip[8] = m.TTL
		applyDiff(ip[10:], d+ttlFell)
	} else {
		ip := packet.V6(mem, m.L3)
		ip[7] = m.TTL
		d = putAddr6(ip[8:], src) + putAddr6(ip[24:], dst)
	}
	l4 := mem[m.L4:]
	d += put16(l4[0:], srcPort) + put16(l4[2:], dstPort)
	applyDiffTransport(l4, m.Proto, d)
}

// fixTransport applies the difference d to the checksum of a TCP or UDP header.
func applyDiffTransport(l4 []byte, proto uint8, d packet.Diff) {
	if proto == packet.TCP {
		applyDiff(l4[16:], d)
	} else {
		applyDiffUDP(l4[6:], d)
	}
}

// put16 writes v over a field and returns the difference that this makes to checksums over it.
func put16(b []byte, v uint16) packet.Diff {
	old, new := le16(b), bits.ReverseBytes16(v)
	binary.LittleEndian.PutUint16(b, new)
	return packet.Diff16(old, new)
}

// put32 is put16 for a field of 32 bits.
func put32(b []byte, v uint32) packet.Diff {
	old, new := binary.LittleEndian.Uint32(b), bits.ReverseBytes32(v)
	binary.LittleEndian.PutUint32(b, new)
	return packet.Diff32(old, new)
}

// putAddr6 is put16 for an IPv6 address.
func putAddr6(b []byte, a packet.Addr) packet.Diff {
	old := packet.Addr{Hi: binary.LittleEndian.Uint64(b), Lo: binary.LittleEndian.Uint64(b[8:])}
	new := packet.Addr{Hi: bits.ReverseBytes64(a.Hi), Lo: bits.ReverseBytes64(a.Lo)}
	binary.LittleEndian.PutUint64(b, new.Hi)
	binary.LittleEndian.PutUint64(b[8:], new.Lo)
	return packet.DiffAddr(old, new)
}

// fix applies the difference d to the checksum at the start of b.
func applyDiff(b []byte, d packet.Diff) { binary.LittleEndian.PutUint16(b, d.Update(le16(b))) }

// fixUDP is fix for the checksum of UDP, where 0 means none.
func applyDiffUDP(b []byte, d packet.Diff) { binary.LittleEndian.PutUint16(b, d.UpdateUDP(le16(b))) }

func le16(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }
func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }
