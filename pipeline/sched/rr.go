package sched

import (
	"fmt"
	"slices"

	"sluice/pipeline/counter"
)

// rr serves the usable backends in turn, whatever their weights (ip_vs_rr.c).
//
// The pointer stands on the backend served last. When the list changes it stays with that backend;
// when that backend is gone, the one that followed it is next.
type rr struct {
	ring
	ids []uint32
}

func newRR(c []Candidate) *rr {
	s := &rr{newRing(c), make([]uint32, len(c))}
	for i := range c {
		s.ids[i] = c[i].ID
	}
	return s
}

// rr's Turn is the id of the backend served last and, in the lower half, its position plus 1; 0 is
// the head.

func (s *rr) Pick(st *State, _ *counter.Loads, _ *Key) int {
	pos, last := int(uint32(st.Turn)), uint32(st.Turn>>32)
	if pos > 0 && (pos > len(s.ids) || s.ids[pos-1] != last) {
		pos = s.resume(pos, last)
	}
	i := s.next[pos]
	if i >= 0 {
		st.Turn = uint64(s.ids[i])<<32 | uint64(i+1)
	}
	return int(i)
}

// resume finds the position to go on from in a list that changed since the last Pick.
func (s *rr) resume(pos int, last uint32) int {
	if at := slices.Index(s.ids, last); at >= 0 {
		return at + 1
	}
	// The follower moved into the place of the one that is gone.
	return min(pos-1, len(s.ids))
}

func (s *rr) explain(a *asked) Explanation {
	after := "from the head of the list"
	for i, id := range s.ids {
		if uint32(a.st.Turn) > 0 && id == uint32(a.st.Turn>>32) {
			after = "behind " + a.name(i) + ", which was served last"
		}
	}
	return Explanation{Rule: fmt.Sprintf("round robin over %d backends, latest added first, %s", len(s.ids), after)}
}
