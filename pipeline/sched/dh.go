package sched

import "sluice/pipeline/counter"

// dh selects the same backend for each destination address (ip_vs_dh.c). It is of use only to
// services that have more than one address. The buckets are distributed in list order, one each
// whatever the weight, round and round; it falls back as sh does.
type dh struct {
	ring
	buckets buckets
}

func newDH(c []Candidate) *dh {
	s := &dh{ring: newRing(c)}
	s.buckets.deal(c, func(*Candidate) uint32 { return 1 })
	return s
}

func (s *dh) Pick(_ *State, _ *counter.Loads, k *Key) int { return s.buckets.at(k.VIP, k.IPv4) }

// ByHash implements Scheduler.
func (s *dh) ByHash(_ uint64, k *Key) int { return s.Pick(nil, nil, k) }

func (s *dh) explain(a *asked) Explanation {
	return s.buckets.explain("destination", a.key.VIP, a.key.IPv4)
}
