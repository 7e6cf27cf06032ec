package tokernel

import "testing"

// TestLimiter: a burst, then the rate; a pause fills the bucket, but no further.
func TestLimiter(t *testing.T) {
	var l limiter
	take := func(nowMs uint32) (n int) {
		for l.allow(nowMs) {
			n++
		}
		return n
	}
	const start = 1<<32 - 5000 // the clock wraps meanwhile
	for _, step := range []struct {
		afterMs uint32
		want    int
	}{
		{0, Burst}, {0, 0}, {1, PerSecond / 1000}, {11, PerSecond / 100}, {4000, Burst}, {4050, PerSecond / 20}, {5001, Burst}, {1 << 31, Burst},
	} {
		if got := take(start + step.afterMs); got != step.want {
			t.Errorf("%d ms after the start %d packets pass, want %d", step.afterMs, got, step.want)
		}
	}
}
