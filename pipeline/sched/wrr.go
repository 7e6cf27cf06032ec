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
	ring
	weights []uint32 // in list order, 0 for the unusable
	step    uint32
	// first: what the first pass requires; counts backends that are down, as IPVS counts overloaded
	// ones
	first uint32
	top   uint32 // the most that some usable backend satisfies; 0: none is usable
	seen  uint32 // fingerprint of the list
}

func newWRR(c []Candidate) *wrr {
	s := &wrr{ring: newRing(c), weights: make([]uint32, len(c)), seen: fingerprint(c)}
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

// pass is wrr's Turn: how far it is through the list.
type pass struct {
	seen     uint32 // fingerprint of the list, 28 bits
	required uint32 // weight that the pass requires, 16 bits; 0: the list was never served
	pos      uint32 // list position to continue from, 20 bits; 0 is the head
}

// The widths of the parts of a Turn. MaxWeight fits the required weight.
const (
	seenBits     = 28
	requiredBits = 16
	posBits      = 20
)

func unpackPass(turn uint64) pass {
	return pass{uint32(turn >> (requiredBits + posBits)), uint32(turn>>posBits) & (1<<requiredBits - 1), uint32(turn) & (1<<posBits - 1)}
}

func (p pass) pack() uint64 {
	return uint64(p.seen)<<(requiredBits+posBits) | uint64(p.required)<<posBits | uint64(p.pos)
}

func (s *wrr) Pick(st *State, _ *counter.Loads, _ *Key) int {
	p := s.adopt(unpackPass(st.Turn))
	if s.top == 0 {
		st.Turn = p.pack()
		return -1
	}
	i := s.serve(p, int(p.pos))
	if i < 0 {
		if p.required > s.step {
			p.required -= s.step
		} else {
			p.required = s.first
		}
		// Passes that require more than top serve no backend: IPVS goes through them one by one.
		p.required = min(p.required, s.top)
		i = s.serve(p, 0)
	}
	p.pos = uint32(i) + 1
	st.Turn = p.pack()
	return i
}

// serve returns the first backend at or after position from that the pass serves, -1 if there is
// none.
func (s *wrr) serve(p pass, from int) int {
	for i := from; i < len(s.weights); i++ {
		if s.weights[i] >= p.required {
			return i
		}
	}
	return -1
}

// adopt adapts a pass over another list to this one: the pointer returns to the head, and the
// required weight is retained if possible.
func (s *wrr) adopt(p pass) pass {
	if p.seen == s.seen && p.required > 0 {
		return p
	}
	if p.required > s.first || p.required == 0 {
		p.required = s.first
	} else if s.step > 1 {
		p.required = p.required/s.step*s.step + 1
	}
	return pass{s.seen, p.required, 0}
}

func (s *wrr) explain(a *asked) Explanation {
	p := s.adopt(unpackPass(a.st.Turn))
	return Explanation{Rule: fmt.Sprintf("weighted round robin over %d backends: position %d, this pass serves weights of %d and more",
		len(s.weights), p.pos, p.required)}
}

// fingerprint differs between lists that differ to IPVS, but for one in 2^28: other backends,
// another order, other weights. A failing backend is no change, as overload is none in IPVS. It is
// never 0.
func fingerprint(c []Candidate) uint32 {
	h := fnv.New64a()
	for i := range c {
		var b [8]byte
		binary.LittleEndian.PutUint32(b[:4], c[i].ID)
		binary.LittleEndian.PutUint32(b[4:], c[i].Weight)
		h.Write(b[:])
	}
	return max(uint32(h.Sum64()>>(64-seenBits)), 1)
}

// gcd is the greatest common divisor; gcd(a, 0) = a.
func gcd(a, b uint32) uint32 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
