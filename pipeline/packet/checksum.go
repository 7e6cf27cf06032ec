package packet

import (
	"encoding/binary"
	"math/bits"
)

// Internet checksums (RFC 1071), and their update when the data changes (RFC 1624).
//
// The checksum is the complement of the ones' complement sum of all 16-bit words: add, and each
// time a carry leaves the top, add it in again at the bottom. That is arithmetic modulo 2^16-1, in
// which 0x0000 and 0xffff are the same number. Two things follow.
//
// Words may be wider. 2^16 = 1 (mod 2^16-1), and so are 2^32 and 2^64: a 64-bit word is congruent
// to the sum of its four 16-bit words. So we add 64 bits at a time with the carry brought round,
// and fold down to 16 at the end; folding x = hi*2^32 + lo is hi+lo with the carry brought round,
// which is the upper half of x plus x rotated by half its width.
//
// Changes may be added. If the word m becomes m', the sum grows by m'-m, and -m is ^m, its
// complement. So with C for the checksum, ^C for the sum: C' = ^(^C + ^m + m'), which is equation 3
// of RFC 1624. The rest of the data does not matter, nor whether C was right: a wrong checksum
// stays wrong by the same amount.
//
// Of the two zeros a sum is 0x0000 only if all that was added is 0x0000; otherwise it is 0xffff.
// Headers are never all zero, so a right checksum is never 0xffff except in UDP, where 0x0000 means
// "none" and a computed 0x0000 is sent as 0xffff (RFC 768).

// Sum is a ones' complement sum, not yet folded to 16 bits. Zero is the empty sum.
type Sum uint64

// Add adds one word of up to 64 bits, aligned as the words summed before it.
func (s Sum) Add(word uint64) Sum {
	t, carry := bits.Add64(uint64(s), word, 0)
	return Sum(t + carry)
}

// Bytes adds b, which must lie at an even offset of the data. An odd last byte counts as if a zero
// byte followed.
func (s Sum) Bytes(b []byte) Sum {
	t, carry := uint64(s), uint64(0)
	for ; len(b) >= 8; b = b[8:] {
		t, carry = bits.Add64(t, binary.BigEndian.Uint64(b), carry)
	}
	var last [8]byte
	copy(last[:], b)
	t, carry = bits.Add64(t, binary.BigEndian.Uint64(last[:]), carry)
	t, carry = bits.Add64(t, 0, carry)
	return Sum(t + carry)
}

// Pseudo adds the pseudo-header of an IPv4 (RFC 9293, 3.1) or IPv6 packet (RFC 8200, 8.1):
// addresses, protocol and the length in bytes of the transport header and its payload.
func (s Sum) Pseudo(src, dst Addr, proto uint8, length int) Sum {
	if src.Is4() {
		return s.Add(uint64(src.V4())).Add(uint64(dst.V4())).Add(uint64(proto) + uint64(length))
	}
	return s.Add(src.Hi).Add(src.Lo).Add(dst.Hi).Add(dst.Lo).Add(uint64(proto) + uint64(length))
}

// Fold brings the sum down to 16 bits.
func (s Sum) Fold() uint16 {
	x := uint64(s)
	y := uint32((x + bits.RotateLeft64(x, 32)) >> 32)
	return uint16((y + bits.RotateLeft32(y, 16)) >> 16)
}

// Checksum is the value for the checksum field of data of which s is the whole sum, that field
// counted as 0.
func (s Sum) Checksum() uint16 { return ^s.Fold() }

// Diff is by how much a sum changes when fields change, below 2^34 for one field: the differences
// of a million fields may be added up with + before there is a carry to bring round. Zero is no
// change.
type Diff uint64

// Diff16 is the difference of a checksum's sum when a 16-bit field changes from old to new.
func Diff16(old, new uint16) Diff { return Diff(^old) + Diff(new) }

// Diff32 is the difference of a sum when a 32-bit field changes from old to new.
func Diff32(old, new uint32) Diff { return Diff(^old) + Diff(new) }

// DiffAddr is the difference of a sum when an address changes from old to new, both of one family.
func DiffAddr(old, new Addr) Diff {
	s := Sum(^old.Hi).Add(new.Hi).Add(^old.Lo).Add(new.Lo)
	return Diff(s>>32 + s&0xffffffff)
}

// Update returns the checksum field after the change d of the data, of which check was the
// checksum.
func (d Diff) Update(check uint16) uint16 { return ^(Sum(d) + Sum(^check)).Fold() }

// UpdateUDP is Update for UDP: no checksum (0) stays none, and a computed 0 is written as 0xffff.
// That holds for IPv6 too, where 0 is rare but legal for tunnels (RFC 6935).
func (d Diff) UpdateUDP(check uint16) uint16 {
	if check == 0 {
		return 0
	}
	if check = d.Update(check); check == 0 {
		return 0xffff
	}
	return check
}
