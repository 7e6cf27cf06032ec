package flow

import (
	"encoding/binary"
	"math/bits"

	"sluice/pipeline/packet"
)

// Toeplitz is the hash by which NICs choose a queue (Microsoft, "RSS Hashing Functions"): each set
// bit of the input contributes the 32 bits of the key that begin at its position. The key must be 4
// bytes longer than the input. The hash is linear: the hash of a xor b is the hash of a xor the
// hash of b.
func Toeplitz(key, input []byte) (hash uint32) {
	for i, b := range input {
		window := uint64(key[i])<<32 | uint64(binary.BigEndian.Uint32(key[i+1:]))
		for ; b != 0; b &= b - 1 {
			hash ^= uint32(window >> (bits.TrailingZeros8(b) + 1))
		}
	}
	return hash
}

// RSS is how a NIC distributes received packets over its queues. It is immutable.
type RSS struct {
	Key    []byte   // of the Toeplitz hash
	Queues []uint16 // indirection table: queue by the hash's low bits
	// Whether the hash includes addresses and ports for packets of this kind. A hash of the
	// addresses alone, or of anything else, is unusable here.
	TCP4, TCP6, UDP4, UDP6 bool
}

// HashesPorts reports whether addresses and ports of a TCP or UDP packet choose its queue.
func (r *RSS) HashesPorts(proto uint8, is4 bool) bool {
	const tcp, udp = 6, 17
	switch {
	case proto == tcp && is4:
		return r.TCP4
	case proto == tcp:
		return r.TCP6
	case proto == udp && is4:
		return r.UDP4
	case proto == udp:
		return r.UDP6
	}
	return false
}

// tuple returns the input of the hash: source and destination address, source and destination port.
func tuple(into *[36]byte, src, dst packet.Addr, srcPort, dstPort uint16) []byte {
	b := into[:0]
	if src.Is4() {
		b = binary.BigEndian.AppendUint32(b, src.V4())
		b = binary.BigEndian.AppendUint32(b, dst.V4())
	} else {
		for _, half := range [...]uint64{src.Hi, src.Lo, dst.Hi, dst.Lo} {
			b = binary.BigEndian.AppendUint64(b, half)
		}
	}
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, srcPort), dstPort)
}

// tupleBytes returns the length of a tuple.
func tupleBytes(is4 bool) int {
	if is4 {
		return 12
	}
	return 36
}

// Hash returns the NIC's hash of a packet. The addresses are of one family.
func (r *RSS) Hash(src, dst packet.Addr, srcPort, dstPort uint16) uint32 {
	var b [36]byte
	return Toeplitz(r.Key, tuple(&b, src, dst, srcPort, dstPort))
}
