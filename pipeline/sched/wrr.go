package sched

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"

	"sluice/pipeline/counter"
)

// wrr serves backends in proportion to their weights, in bursts (ip_vs_wrr.c). A pass over the list
// serves every backend with at least the required weight; the first pass requires the
// highest weight, each further one a step less, and after the pass that requires 1 the first
// follows again. Weights 4, 2, 1 give a a a b a b c.
//
// The step is the greatest common divisor of the weights. All that is required is congruent to 1
// modulo the step.
type wrr struct {
	weights []uint32 // in list order, 0 for the unusable
	step    uint32
	// first: what the first pass requires; counts backends that are down, as IPVS counts overloaded
	// ones
	first uint32
	top   uint32 // the most that some usable backend satisfies; 0: none is usable
	seen  uint64 // fingerprint of the list
}

func newWRR(c []Candidate) *wrr {
	s := &wrr{weights: make([]uint32, len(c)), seen: fingerprint(c)}
	heaviest, heaviestUsable := uint32(0), uint32(0)
	for i := range c {
		s.step = gcd(c[i].Weight, s.step)
		heaviest = max(heaviest, c[i].Weight)
		if c[i].usable() {
			s.weights[i] = c[i].Weight
			heaviestUsable = max(heaviestUsable, c[i].Weight)
		}
	}
	s.step = max(s.step, 1)
	if heaviest > 0 {
		s.first = heaviest - (s.step - 1)
	}
	if heaviestUsable > 0 {
		s.top = heaviestUsable - (s.step - 1)
	}
	return s
}

func (s *wrr) Pick(st *State, _ *counter.Loads, _ *Key) int {
	if st.Seen != s.seen {
		s.adopt(st)
	}
	if s.top == 0 {
		return -1
	}
	if i := s.serve(st, int(st.Pos)); i >= 0 {
		return i
	}
	if st.CW > s.step {
		st.CW -= s.step
	} else {
		st.CW = s.first
	}
	// Passes that require more than top serve no backend: IPVS goes through them one by one.
	st.CW = min(st.CW, s.top)
	return s.serve(st, 0)
}

// serve returns the first backend at or after position from that the current pass serves, -1 if
// there is none.
func (s *wrr) serve(st *State, from int) int {
	for i := from; i < len(s.weights); i++ {
		if s.weights[i] >= st.CW {
			st.Pos = uint32(i) + 1
			return i
		}
	}
	return -1
}

// adopt adapts st to this list: the pointer returns to the head, and the required weight is
// retained if possible.
func (s *wrr) adopt(st *State) {
	st.Seen, st.Pos = s.seen, 0
	if st.CW > s.first || st.CW == 0 {
		st.CW = s.first
	} else if s.step > 1 {
		st.CW = st.CW/s.step*s.step + 1
	}
}

func (s *wrr) explain(a *asked) Explanation {
	if a.st.Seen != s.seen {
		s.adopt(&a.st)
	}
	return Explanation{Rule: fmt.Sprintf("weighted round robin over %d backends: position %d, this pass serves weights of %d and more",
		len(s.weights), a.st.Pos, a.st.CW)}
}

// fingerprint differs between lists that differ to IPVS: other backends, another order, other
// weights. A failing backend is no change, as overload is none in IPVS. It is never 0.
func fingerprint(c []Candidate) uint64 {
	h := fnv.New64a()
	for i := range c {
		var b [8]byte
		binary.LittleEndian.PutUint32(b[:4], c[i].ID)
		binary.LittleEndian.PutUint32(b[4:], c[i].Weight)
		h.Write(b[:])
	}
	return max(h.Sum64(), 1)
}

// gcd is the greatest common divisor; gcd(a, 0) = a.
func gcd(a, b uint32) uint32 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
