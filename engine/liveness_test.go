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
		// The other worker gets as long as it needs to answer.
		lab.Await("worker 1 alone to be named", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			err := lab.Engine.Alive(ctx)
			if err == nil {
				t.Fatal("worker 1 hangs, and all are alive")
			}
			return strings.Contains(err.Error(), "do not respond: 1 (CPU")
		})
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
