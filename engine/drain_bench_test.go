package engine

import (
	"fmt"
	"testing"

	"sluice/engine/override"
	"sluice/pipeline"
)

// switched returns an engine with some backends, ten per service, and a function that sets a state
// for the first one and ends it, in turns.
func switched(tb testing.TB, backends int, state override.State) (e *Engine, turn func()) {
	tb.Helper()
	e, err := newOffline(manyServices(tb, backends/10, 10, "nat", "wlc"), OfflineOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	s := &e.cfg.Services[0]
	id := s.Key.BackendID(s.Backends[0].Key)
	next := override.Override{State: state}
	return e, func() {
		if err := e.override(e.overrides.With(id, next), id.Service); err != nil {
			tb.Fatal(err)
		}
		if next.State == state {
			next = override.Override{}
		} else {
			next.State = state
		}
	}
}

// BenchmarkDrain measures the tables for the drain of one backend, and for its disable, which also
// evicts, by the number of backends that are configured.
func BenchmarkDrain(b *testing.B) {
	for _, state := range []override.State{override.Drain, override.Disable} {
		for _, backends := range []int{10, 10_000} {
			b.Run(fmt.Sprintf("%s/%d", state, backends), func(b *testing.B) {
				_, turn := switched(b, backends, state)
				b.ReportAllocs()
				for b.Loop() {
					turn()
				}
			})
		}
	}
}

// TestDrainConcernsOneService: the drain and the disable of a backend make one scheduler and change
// one backend at most, with as many allocations for 10 backends as for 10,000. A drain copies no
// array of backends.
func TestDrainConcernsOneService(t *testing.T) {
	many := 10_000
	if testing.Short() {
		many = 1000
	}
	for _, state := range []override.State{override.Drain, override.Disable} {
		var allocations []float64
		for _, backends := range []int{10, many} {
			e, turn := switched(t, backends, state)
			turn()
			turn()
			before := e.compiled.Tables
			turn()
			after := e.compiled.Tables
			schedulers, changed := differences(before, after)
			if want := map[override.State]int{override.Disable: 1}[state]; schedulers != 1 || changed != want {
				t.Errorf("%s of one of %d backends: %d schedulers and %d backends changed, want 1 and %d", state, backends, schedulers, changed, want)
			}
			if shared := &before.Backends[0] == &after.Backends[0]; shared != (state == override.Drain) {
				t.Errorf("%s of one of %d backends: the array of backends is shared: %t", state, backends, shared)
			}
			if &before.Services[0] == &after.Services[0] {
				t.Errorf("%s: the array of services was written in place", state)
			}
			allocations = append(allocations, testing.AllocsPerRun(20, turn))
		}
		if allocations[1] > allocations[0]+8 {
			t.Errorf("%s: %.0f allocations with 10 backends, %.0f with %d", state, allocations[0], allocations[1], many)
		}
	}
}

// differences returns how many schedulers and backends differ between tables.
func differences(a, b *pipeline.Tables) (schedulers, backends int) {
	for i := range a.Services {
		if a.Services[i].Scheduler != b.Services[i].Scheduler {
			schedulers++
		}
	}
	for i := range a.Backends {
		if a.Backends[i] != b.Backends[i] {
			backends++
		}
	}
	return schedulers, backends
}
