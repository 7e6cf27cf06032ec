package engine_test

import (
	"strings"
	"testing"
	"time"

	"sluice/engine/enginetest"
)

// TestStuckForTooLong checks that a worker that hangs for stuck_after ends the engine, which names
// it, and that workers that sleep do not.
func TestStuckForTooLong(t *testing.T) {
	slow(t)
	lab := enginetest.New(t, 2, 2)
	lab.StuckAfter = "1s"
	lab.Start(2, config(nat3()))
	if err := lab.Engine.Stuck(); err != nil {
		t.Fatal("all workers run:", err)
	}
	thaw := lab.Freeze(enginetest.Clients, 1)
	select {
	case <-lab.Engine.Done():
	case <-time.After(time.Minute):
		t.Fatal("the engine goes on")
	}
	if err := lab.Engine.Stuck(); err == nil || !strings.Contains(err.Error(), "worker 1 (CPU") || !strings.Contains(err.Error(), "1s") {
		t.Errorf("worker 1 hangs, and the engine says %v", err)
	}
	thaw()
	if err := lab.Crashed(); err == nil || !strings.Contains(err.Error(), "stuck_after") {
		t.Errorf("close: %v", err)
	}
}
