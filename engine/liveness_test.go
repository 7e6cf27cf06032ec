package engine_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"sluice/engine/enginetest"
)

// TestAlive: a worker that hangs is found and named, and one that sleeps is not taken for it.
func TestAlive(t *testing.T) {
	lab := enginetest.New(t, 2, 2)
	lab.Start(2, config(nat3()))
	if err := lab.Engine.Alive(t.Context()); err != nil {
		t.Fatal("all workers turn:", err)
	}
	thaw := lab.Freeze(enginetest.Clients, 1)
	for range 3 { // what is in the mailbox of a worker that hangs is no answer either
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		err := lab.Engine.Alive(ctx)
		cancel()
		if err == nil || !strings.Contains(err.Error(), "do not respond: 1 (CPU") {
			t.Errorf("worker 1 hangs: %v", err)
		}
	}
	thaw()
	if err := lab.Engine.Alive(t.Context()); err != nil {
		t.Error("it goes on:", err)
	}
	lab.Close()
	if err := lab.Engine.Alive(t.Context()); err == nil {
		t.Error("a closed engine is alive")
	}
}
