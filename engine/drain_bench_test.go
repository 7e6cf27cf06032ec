package engine

import (
	"fmt"
	"testing"

	"sluice/engine/override"
)

// BenchmarkDrain measures the tables for the drain of one backend, by the number of those that are
// configured, ten per service.
func BenchmarkDrain(b *testing.B) {
	for _, backends := range []int{10, 10_000} {
		b.Run(fmt.Sprint(backends), func(b *testing.B) {
			e, err := newOffline(manyServices(b, backends/10, 10, "nat", "wlc"), OfflineOptions{})
			if err != nil {
				b.Fatal(err)
			}
			s := &e.cfg.Services[0]
			id := s.Key.BackendID(s.Backends[0].Key)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				o := override.Override{State: []override.State{override.Drain, override.Disable}[i%2]}
				if err := e.override(e.overrides.With(id, o), id.Service); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
