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
	ids []uint32
	// next: next[p]: first usable position at or after p, going round; -1: none. p = len(ids) means
	// the head
	next []int32
}

func newRR(c []Candidate) *rr {
	s := &rr{ids: make([]uint32, len(c)), next: make([]int32, len(c)+1)}
	following := int32(slices.IndexFunc(c, func(c Candidate) bool { return c.usable() }))
	for p := len(c); p >= 0; p-- {
		if p < len(c) {
			s.ids[p] = c[p].ID
			if c[p].usable() {
				following = int32(p)
			}
		}
		s.next[p] = following
	}
	return s
}

func (s *rr) Pick(st *State, _ *counter.Loads, _ *Key) int {
	p := int(st.Pos)
	if p > 0 && (p > len(s.ids) || s.ids[p-1] != st.Last) {
		p = s.resume(st)
	}
	i := s.next[p]
	if i >= 0 {
		st.Pos, st.Last = uint32(i)+1, s.ids[i]
	}
	return int(i)
}

// resume finds the position to go on from in a list that changed since the last Pick.
func (s *rr) resume(st *State) int {
	if at := slices.Index(s.ids, st.Last); at >= 0 {
		return at + 1
	}
	// The follower moved into the place of the one that is gone.
	return min(int(st.Pos)-1, len(s.ids))
}

func (s *rr) explain(a *asked) Explanation {
	after := "from the head of the list"
	for i, id := range s.ids {
		if a.st.Pos > 0 && id == a.st.Last {
			after = "behind " + a.name(i) + ", which this worker served last"
		}
	}
	return Explanation{Rule: fmt.Sprintf("round robin over %d backends, latest added first, %s", len(s.ids), after)}
}
