package cpu

import (
	"runtime"
	"runtime/debug"
	"testing"
)

// TestBoundHeap: a heap with much live data grows by a bounded amount, a small one by the usual
// percentage.
func TestBoundHeap(t *testing.T) {
	before := debug.SetGCPercent(gcPercent)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	for live, want := range map[uint64]int{0: gcPercent, 4 << 20: gcPercent, 128 << 20: 101, 1 << 30: 13, 1 << 40: 1} {
		if got := heapPercent(live); got != want {
			t.Errorf("%d live bytes: %d %%, want %d", live, got, want)
		}
	}
	data := make([]byte, 256<<20)
	BoundHeap()
	runtime.KeepAlive(data)
	if got := debug.SetGCPercent(gcPercent); got < 1 || got > 51 {
		t.Errorf("with %d live bytes the heap may grow by %d %%", len(data), got)
	}
}
