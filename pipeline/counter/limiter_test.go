package counter_test

import (
	"testing"

	"sluice/pipeline/counter"
)

// TestLimiter: a burst, then the rate; a pause fills the bucket, but no further.
func TestLimiter(t *testing.T) {
	const perSecond, burst = 10_000, 1_000
	var l counter.Limiter
	take := func(nowMs uint32) (n int) {
		for l.Allow(nowMs, perSecond, burst) {
			n++
		}
		return n
	}
	const start = 1<<32 - 5000 // the clock wraps meanwhile
	for _, step := range []struct {
		afterMs uint32
		want    int
	}{
		{0, burst}, {0, 0}, {1, perSecond / 1000}, {11, perSecond / 100}, {4000, burst}, {4050, perSecond / 20}, {5001, burst}, {1 << 31, burst},
	} {
		if got := take(start + step.afterMs); got != step.want {
			t.Errorf("%d ms after the start %d packets pass, want %d", step.afterMs, got, step.want)
		}
	}
}
