package sched

import "math/bits"

// clientKey is the key of the hash by which mh picks a client's backend, expanded to the state that
// a hash begins with.
//
// The hash is SipHash-1-3 (Aumasson and Bernstein, 2012) of the client's address, 4 or 16 bytes,
// and, if ports are hashed, the 2 bytes of its port, in network byte order. All hosts with the same
// key must have the same, whatever their version, so it must never change.
//
// It has less margin than SipHash-2-4, which the backends' tables are made with, but a client never
// sees a result, only which backend it gets. Hash tables of Rust and Python rely on it against the
// same kind of attack. An IPv4 address takes 4 rounds; SipHash-2-4 of its mapped form took 10.
//
// The multiplications of package flow are cheaper, but no secret is safe in them from who compares
// enough results. That key lives as long as the process and shows none; this one may be in use for
// years, on many hosts.
type clientKey [4]uint64

func newClientKey(k0, k1 uint64) clientKey {
	return clientKey{k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573}
}

// hash returns the hash of the client's address and, if ports is true, its port.
func (k *clientKey) hash(c *Key, ports bool) uint64 {
	var tail, size uint64 // the bytes after the last whole block, and of the whole message
	v0, v1, v2, v3 := k[0], k[1], k[2], k[3]
	if c.IPv4 {
		tail, size = uint64(bits.ReverseBytes32(uint32(c.Client[1]))), 4
	} else {
		for _, block := range c.Client {
			block = bits.ReverseBytes64(block)
			v3 ^= block
			v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
			v0 ^= block
		}
		size = 16
	}
	if ports {
		tail |= uint64(bits.ReverseBytes16(c.ClientPort)) << (size % 8 * 8)
		size += 2
	}
	tail |= size << 56
	v3 ^= tail
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	v0 ^= tail
	v2 ^= 0xff
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	return v0 ^ v1 ^ v2 ^ v3
}

func sipRound(v0, v1, v2, v3 uint64) (_, _, _, _ uint64) {
	v0 += v1
	v1 = bits.RotateLeft64(v1, 13) ^ v0
	v2 += v3
	v3 = bits.RotateLeft64(v3, 16) ^ v2
	v2 += v1
	v1 = bits.RotateLeft64(v1, 17) ^ v2
	v0 = bits.RotateLeft64(v0, 32) + v3
	v3 = bits.RotateLeft64(v3, 21) ^ v0
	return v0, v1, bits.RotateLeft64(v2, 32), v3
}
