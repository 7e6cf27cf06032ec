package rewrite

import (
	"encoding/binary"
	"math/bits"

	"sluice/pipeline/packet"
)

// The functions for the two ends of a packet are written out, with offsets that are constant to the
// compiler, and all changes of one header are applied to its checksum at once. They lower the TTL
// or hop limit as DecTTL does; the caller has made sure that it is above 1.
//
// Checksums are updated in little endian byte order, the machine's: swapping the bytes of all words
// swaps the bytes of their ones' complement sum and changes nothing else (RFC 1071, 2 (B)). It
// saves swapping back and forth.

// ttlFell is the difference of lowering the TTL by 1: it is the low byte of the word of TTL and
// protocol, so that word falls by 1.
const ttlFell packet.Diff = 0xfffe

// NATIn changes destination address and port of a client's packet to the backend's. dst is of the
// packet's family.
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

// NATOut changes source address and port of a backend's packet to the service's. src is of the
// packet's family.
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

// applyDiffTransport applies the difference d to the checksum of a TCP or UDP header.
func applyDiffTransport(l4 []byte, proto uint8, d packet.Diff) {
	if proto == packet.TCP {
		applyDiff(l4[16:], d)
	} else {
		applyDiffUDP(l4[6:], d)
	}
}

// put16 writes v to a field and returns the difference to checksums over it.
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

// applyDiff applies the difference d to the checksum at the start of b.
func applyDiff(b []byte, d packet.Diff) { binary.LittleEndian.PutUint16(b, d.Update(le16(b))) }

// applyDiffUDP is applyDiff for the checksum of UDP, where 0 means none.
func applyDiffUDP(b []byte, d packet.Diff) { binary.LittleEndian.PutUint16(b, d.UpdateUDP(le16(b))) }

func le16(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }
func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }
