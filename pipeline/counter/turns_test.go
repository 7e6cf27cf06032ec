package counter_test

import (
	"sync"
	"testing"

	"sluice/pipeline/counter"
)

// Each turn is taken once, however many workers take turns at the same moment.
func TestTurns(t *testing.T) {
	const workers, rounds, services = 4, 5000, 3
	turns := counter.NewTurns(workers, services)
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for n := range rounds {
				service := uint32(n % services)
				for {
					if was := turns.Of(service); turns.Advance(service, was, was+1) {
						break
					}
				}
			}
		})
	}
	running.Wait()
	for service := range uint32(services) {
		if got, want := turns.Of(service), uint64(workers*((rounds+services-1-int(service))/services)); got != want {
			t.Errorf("service %d: %d turns, want %d", service, got, want)
		}
	}
	if turns.Advance(0, 7, 8) {
		t.Error("a turn was taken twice")
	}
}
