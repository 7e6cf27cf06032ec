package sched

import (
	"fmt"
	"math"

	"sluice/pipeline/counter"
)

// lc takes the backend with the least overhead, whatever its weight; the first in the list wins
// ties (ip_vs_lc.c).
type lc struct{ ring }

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

func (s *lc) explain(a *asked) Explanation {
	return a.least("least connections, active ones counting 256 times as much as inactive ones", s.servers,
		func(_ *server, l counter.Load) string { return fmt.Sprint(overhead(l)) })
}
