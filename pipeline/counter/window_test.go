package counter_test

import (
	"sync"
	"testing"

	"sluice/pipeline/counter"
)

// TestAdmit checks that no second has more than a rate, whatever the load, that an idle service may
// have a second's worth at once, and that all workers together count.
func TestAdmit(t *testing.T) {
	const perSecond = 1000
	turns := counter.NewTurns(2, 2)
	admitted := make([]int, 5000) // by ms
	for ms := range uint32(5000) {
		var mu sync.Mutex
		var workers sync.WaitGroup
		for range 2 {
			workers.Go(func() {
				for range 4 {
					if turns.Admit(1, 77_000+ms, perSecond) {
						mu.Lock()
						admitted[ms]++
						mu.Unlock()
					}
				}
			})
		}
		workers.Wait()
	}
	sum, all := 0, 0
	for ms, n := range admitted {
		sum += n
		all += n
		if ms >= 1000 {
			sum -= admitted[ms-1000]
		}
		if sum > perSecond*105/100 {
			t.Fatalf("%d in the second up to %d ms", sum, ms)
		}
	}
	if all < 5*perSecond*95/100 {
		t.Errorf("%d in 5 s", all)
	}
	burst := 0
	for turns.Admit(1, 90_500, perSecond) {
		burst++
	}
	if burst != perSecond {
		t.Errorf("%d at once", burst)
	}
}
