package sched

import "slices"

// ring finds the usable candidates by their places in the list, and by their weights. Every
// scheduler has one.
type ring struct {
	// next: next[p]: first usable position at or after p, going round; -1: none. p = len(list)
	// means the head
	next []int32
	lottery
}

func newRing(c []Candidate) ring {
	r := ring{make([]int32, len(c)+1), newLottery(c)}
	following := int32(slices.IndexFunc(c, func(c Candidate) bool { return c.usable() }))
	for p := len(c); p >= 0; p-- {
		if p < len(c) && c[p].usable() {
			following = int32(p)
		}
		r.next[p] = following
	}
	return r
}

// ByHash implements Scheduler.
func (r *ring) ByHash(hash uint64, _ *Key) int {
	if len(r.servers) == 0 {
		return -1
	}
	return int(r.owner(hash).index)
}

// After implements Scheduler.
func (r *ring) After(i int) int { return int(r.next[i+1]) }
