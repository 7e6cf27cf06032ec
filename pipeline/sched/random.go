package sched

import (
	"fmt"
	"math/bits"

	"sluice/pipeline/counter"
)

// random takes a random backend, in proportion to the weights.
type random struct{ ring }

func (s *random) Pick(st *State, _ *counter.Loads, _ *Key) int {
	if len(s.servers) == 0 {
		return -1
	}
	return int(s.draw(st).index)
}

func (s *random) explain(*asked) Explanation {
	return s.lottery.explain("at random, in proportion to the weights: the next draw")
}

// lottery draws among usable backends by weight. Backend i owns the tickets from ends[i-1] up to,
// not including, ends[i].
type lottery struct {
	servers []server
	ends    []uint64
}

func newLottery(c []Candidate) lottery {
	l := lottery{servers: servers(c)}
	l.ends = make([]uint64, len(l.servers))
	sum := uint64(0)
	for i := range l.servers {
		sum += uint64(l.servers[i].weight)
		l.ends[i] = sum
	}
	return l
}

// draw takes a ticket and returns its owner. There must be at least one server.
func (l *lottery) draw(st *State) *server { return l.owner(st.random()) }

// owner returns the owner of the ticket that 64 random bits stand for. There must be at least one
// server.
func (l *lottery) owner(random uint64) *server {
	ticket, _ := bits.Mul64(random, l.ends[len(l.ends)-1])
	low, high := 0, len(l.ends)-1 // the owner is in low..high
	for low < high {
		if mid := (low + high) / 2; ticket < l.ends[mid] {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return &l.servers[low]
}

// explain lists the tickets of each backend.
func (l *lottery) explain(rule string) Explanation {
	w := Explanation{Rule: rule}
	for i := range l.servers {
		w.set(int(l.servers[i].index), fmt.Sprintf("weight %d of %d", l.servers[i].weight, l.ends[len(l.ends)-1]))
	}
	return w
}

// random returns 64 bits of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
func (st *State) random() uint64 {
	st.Rand += goldenGamma
	return mix(st.Rand)
}

// goldenGamma is 2^64 divided by the golden ratio, made odd.
const goldenGamma = 0x9e3779b97f4a7c15

// mix is the output function of SplitMix64: a bijection in which every input bit changes half of
// the output.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
