package sched

import "sluice/pipeline/counter"

// p2c, the power of two choices, draws two backends by weight and takes the one with less overhead
// per weight; the first drawn wins ties, and both draws may hit the same one (ip_vs_twos.c). It
// comes close to wlc without reading every count.
type p2c struct{ ring }

func (s *p2c) Pick(st *State, loads *counter.Loads, _ *Key) int {
	if len(s.servers) == 0 {
		return -1
	}
	a, b := s.draw(st), s.draw(st)
	if overhead(loads.Of(a.id))*uint64(b.weight) > overhead(loads.Of(b.id))*uint64(a.weight) {
		return int(b.index)
	}
	return int(a.index)
}

func (s *p2c) explain(*asked) Explanation {
	return s.lottery.explain("the less loaded of two random ones: the next draws")
}
