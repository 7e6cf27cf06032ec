package sched

import "sluice/pipeline/counter"

// nq takes the first backend in the list without an active connection, and chooses like sed when
// there is none (ip_vs_nq.c, "never queue").
type nq struct{ ring }

func (s *nq) Pick(_ *State, loads *counter.Loads, _ *Key) int {
	best, active, weight := int32(-1), uint64(1), uint64(0)
	for i := range s.servers {
		v := &s.servers[i]
		a, w := uint64(loads.Of(v.id).Active), uint64(v.weight)
		if a == 0 {
			return int(v.index)
		}
		if active*w > (a+1)*weight {
			best, active, weight = v.index, a+1, w
		}
	}
	return int(best)
}

func (s *nq) explain(a *asked) Explanation {
	return a.least("never queue: the first one without active connections, else shortest expected delay", s.servers, delay)
}
