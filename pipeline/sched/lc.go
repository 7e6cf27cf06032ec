package sched

import (
	"math"

	"sluice/pipeline/counter"
)

// lc takes the backend with the least overhead, whatever its weight; the first in the list wins
// ties (ip_vs_lc.c).
type lc struct{ servers []server }

func (s *lc) Pick(_ *State, loads *counter.Loads, _ *Key) int {
	best, least := int32(-1), uint64(math.MaxUint64)
	for i := range s.servers {
		v := &s.servers[i]
		if o := overhead(loads.Of(v.id)); o < least {
			best, least = v.index, o
		}
	}
	return int(best)
}
