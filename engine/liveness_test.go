package engine_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"sluice/engine/enginetest"
)

// TestAlive checks that Alive names a worker that hangs, and not one that sleeps.
func TestAlive(t *testing.T) {
	lab := enginetest.New(t, 2, 2)
	lab.Start(2, config(nat3()))
	if err := lab.Engine.Alive(t.Context()); err != nil {
		t.Fatal("all workers run:", err)
	}
	thaw := lab.Freeze(enginetest.Clients, 1)
	for range 3 { // a function that waits in the mailbox is no answer
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		err := lab.Engine.Alive(ctx)
		cancel()
		if err == nil || !strings.Contains(err.Error(), "do not respond: 1 (CPU") {
			t.Errorf("worker 1 hangs: %v", err)
		}
	}
	thaw()
	if err := lab.Engine.Alive(t.Context()); err != nil {
		t.Error("worker 1 runs again:", err)
	}
	lab.Close()
	if err := lab.Engine.Alive(t.Context()); err == nil {
		t.Error("a closed engine is alive")
	}
}
