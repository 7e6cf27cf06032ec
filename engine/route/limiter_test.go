package route

import (
	"testing"
	"time"
)

func TestLimiter(t *testing.T) {
	l := newLimiter[int](3)
	start := time.Now()
	for i, step := range []struct {
		key   int
		after time.Duration
		want  bool
	}{
		{1, 0, true}, {1, 0, false}, {1, 999 * time.Millisecond, false},
		{1, time.Second, true}, {2, time.Second, true}, {3, time.Second, true},
		{4, time.Second, false},    // three are allowed within the second
		{4, 2 * time.Second, true}, // the second is over
		{1, 2 * time.Second, true},
	} {
		if got := l.allow(step.key, start.Add(step.after)); got != step.want {
			t.Errorf("step %d: %v", i, got)
		}
	}
}
