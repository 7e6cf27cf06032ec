package sched

import (
	"fmt"

	"sluice/pipeline/counter"
)

// wlc takes the backend with the least overhead per weight; the first in the list wins ties
// (ip_vs_wlc.c).
type wlc struct{ ring }

func (s *wlc) Pick(_ *State, loads *counter.Loads, _ *Key) int {
	// Load and weight of the best so far are compared as fractions; 1/0 is more than any.
	best, load, weight := int32(-1), uint64(1), uint64(0)
	for i := range s.servers {
		v := &s.servers[i]
		if o, w := overhead(loads.Of(v.id)), uint64(v.weight); load*w > o*weight {
			best, load, weight = v.index, o, w
		}
	}
	return int(best)
}

func (s *wlc) explain(a *asked) Explanation {
	return a.least("least connections per weight, active ones counting 256 times as much as inactive ones", s.servers,
		func(v *server, l counter.Load) string { return fmt.Sprintf("%d/%d", overhead(l), v.weight) })
}
