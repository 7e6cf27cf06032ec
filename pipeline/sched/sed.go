package sched

import (
	"fmt"

	"sluice/pipeline/counter"
)

// sed takes the backend with the shortest expected delay: active connections, the new one included,
// per weight. Inactive ones don't count; the first in the list wins ties (ip_vs_sed.c).
type sed struct{ ring }

func (s *sed) Pick(_ *State, loads *counter.Loads, _ *Key) int {
	// Delays are compared as fractions; 1/0 is more than any.
	best, active, weight := int32(-1), uint64(1), uint64(0)
	for i := range s.servers {
		v := &s.servers[i]
		if a, w := uint64(loads.Of(v.id).Active)+1, uint64(v.weight); active*w > a*weight {
			best, active, weight = v.index, a, w
		}
	}
	return int(best)
}

func (s *sed) explain(a *asked) Explanation {
	return a.least("shortest expected delay: active connections, the new one included, per weight", s.servers, delay)
}

// delay returns what sed and nq compare, in words.
func delay(v *server, l counter.Load) string { return fmt.Sprintf("%d/%d", l.Active+1, v.weight) }
