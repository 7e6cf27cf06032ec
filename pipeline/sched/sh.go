package sched

import (
	"fmt"

	"sluice/pipeline/counter"
)

// bucketBits is IPVS's default table size for sh and dh: 256 buckets.
const bucketBits = 8

// buckets holds candidate indexes by an address's hash.
type buckets struct {
	all    [1 << bucketBits]int32 // -1 if the owner is unusable
	usable []int32                // all without those
}

// sh selects the same backend for each client address (ip_vs_sh.c). The buckets are distributed in
// list order, as many in a row as the backend's weight, round and round. Weight 0 still takes one
// bucket. A client with an unusable backend falls back to one of the others, in proportion to their
// buckets; no other client moves.
type sh struct {
	ring
	buckets buckets
}

func newSH(c []Candidate) *sh {
	s := &sh{ring: newRing(c)}
	s.buckets.deal(c, func(c *Candidate) uint32 { return c.Weight })
	return s
}

func (s *sh) Pick(_ *State, _ *counter.Loads, k *Key) int { return s.buckets.at(k.Client, k.IPv4) }

// ByHash implements Scheduler.
func (s *sh) ByHash(_ uint64, k *Key) int { return s.Pick(nil, nil, k) }

func (s *sh) explain(a *asked) Explanation {
	return s.buckets.explain("source", a.key.Client, a.key.IPv4)
}

// deal fills the buckets: in list order, round and round, each candidate as many in a row as count
// returns, at least one.
func (b *buckets) deal(c []Candidate, count func(*Candidate) uint32) {
	i, dealt := 0, uint32(0)
	for n := range b.all {
		b.all[n] = -1
		if len(c) == 0 {
			continue
		}
		if c[i].usable() {
			b.all[n] = int32(i)
			b.usable = append(b.usable, int32(i))
		}
		if dealt++; dealt >= count(&c[i]) {
			i, dealt = (i+1)%len(c), 0
		}
	}
}

// at returns what the bucket of an address holds, or the one that it falls back to.
func (b *buckets) at(addr [2]uint64, ipv4 bool) int {
	v := fold(addr, ipv4)
	if i := b.all[hash32(v, bucketBits)]; i >= 0 {
		return int(i)
	}
	if len(b.usable) == 0 {
		return -1
	}
	return int(b.usable[b.second(v)])
}

// second chooses among the usable buckets by another hash than the first, so that the clients of
// one backend are distributed over all others. ip_vs_sh.c walks on from twice the first hash
// instead, and with backends of equal weight most often ends at the same one.
func (b *buckets) second(v uint32) int {
	v = (v ^ v>>16) * 0x7feb352d
	v = (v ^ v>>15) * 0x846ca68b
	return int(uint64(v^v>>16) * uint64(len(b.usable)) >> 32)
}

// explain describes what at decides by. of is the end of the packet that has the address.
func (b *buckets) explain(of string, addr [2]uint64, ipv4 bool) Explanation {
	bucket := hash32(fold(addr, ipv4), bucketBits)
	w := Explanation{Rule: fmt.Sprintf("hash of the %s address: bucket %d of %d", of, bucket, len(b.all))}
	switch {
	case b.all[bucket] >= 0:
	case len(b.usable) == 0:
		w.Rule += ", and no backend may take a new connection"
	default:
		w.Rule += fmt.Sprintf(": its backend may take no new connection, so bucket %d of the %d usable ones", b.second(fold(addr, ipv4)), len(b.usable))
	}
	return w
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
