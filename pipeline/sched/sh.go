package sched

import "sluice/pipeline/counter"

// bucketBits is IPVS's default table size for sh and dh: 256 buckets.
const bucketBits = 8

// buckets holds candidate indexes, -1 where the owner is unusable.
type buckets [1 << bucketBits]int32

// sh serves a client address always from the same backend (ip_vs_sh.c). The buckets are dealt out in list order, as many
// in a row as the backend's weight, round and round. Weight 0 still takes one bucket. A client whose backend is unusable
// gets none: there is no fallback.
type sh struct{ buckets buckets }

func newSH(c []Candidate) *sh {
	s := new(sh)
	s.buckets.deal(c, func(c *Candidate) uint32 { return c.Weight })
	return s
}

func (s *sh) Pick(_ *State, _ *counter.Loads, k *Key) int { return s.buckets.at(k.Client, k.IPv4) }

// deal fills the buckets: in list order, round and round, each candidate as many in a row as count says, at least one.
func (b *buckets) deal(c []Candidate, count func(*Candidate) uint32) {
	i, dealt := 0, uint32(0)
	for n := range b {
		b[n] = -1
		if len(c) == 0 {
			continue
		}
		if c[i].usable() {
			b[n] = int32(i)
		}
		if dealt++; dealt >= count(&c[i]) {
			i, dealt = (i+1)%len(c), 0
		}
	}
}

// at returns what the bucket of an address holds.
func (b *buckets) at(addr [2]uint64, ipv4 bool) int {
	return int(b[hash32(fold(addr, ipv4), bucketBits)])
}

// fold makes 32 bits of an address: IPv4 as it is, IPv6 as the exclusive or of its four words.
func fold(addr [2]uint64, ipv4 bool) uint32 {
	if ipv4 {
		return uint32(addr[1])
	}
	x := addr[0] ^ addr[1]
	return uint32(x>>32) ^ uint32(x)
}

// hash32 is the kernel's multiplicative hash to that many bits (include/linux/hash.h, hash_32).
func hash32(v uint32, bits uint) uint32 { return v * 0x61C88647 >> (32 - bits) }
