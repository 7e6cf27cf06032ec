package sched_test

import (
	"testing"

	"sluice/pipeline/counter"
	"sluice/pipeline/sched"
	"sluice/pipeline/service"
)

// TestAfter: from the picked candidate on, After visits each usable one once.
func TestAfter(t *testing.T) {
	mixed := candidates(1, 0, 3, 2, 5)
	mixed[3].Up = false
	for _, name := range service.Schedulers {
		for want, list := range map[int][]sched.Candidate{3: mixed, 1: mixed[:2], 4: equal(4)} {
			s, loads := mustNew(t, name, list), counter.NewLoads(1, len(list))
			first := s.Pick(new(sched.State), loads, v4(7))
			seen := map[int]bool{first: true}
			for at := s.After(first); at != first; at = s.After(at) {
				if seen[at] || !list[at].Up || list[at].Weight == 0 {
					t.Fatalf("%s: %d follows, after %v of %+v", name, at, seen, list)
				}
				seen[at] = true
			}
			if len(seen) != want {
				t.Errorf("%s: %d candidates, want %d", name, len(seen), want)
			}
		}
	}
}
