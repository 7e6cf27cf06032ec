package steady

import (
	"context"
	"testing"
	"time"

	"sluice/engine/cpu"
	"sluice/tools/pause"
)

// TestReloadsUnderSteadyPackets starts a small stream, reloads the configuration and wants all
// packets back.
func TestReloadsUnderSteadyPackets(t *testing.T) {
	allowed, err := cpu.Allowed()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := Start(ctx, Options{CPU: allowed[len(allowed)-1], Services: 3, Backends: 2, Flows: 30, Rate: 1000})
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Measure(ctx, func() error {
		for range 3 {
			if err := s.Reload(ctx); err != nil {
				return err
			}
		}
		return pause.For(ctx, 100*time.Millisecond)
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Packets == 0 || r.P50Us <= 0 || r.P999Us < r.P50Us || r.MaxUs < r.P999Us {
		t.Errorf("%+v makes no sense", r)
	}
	stats, err := s.engine.Stats(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if stats.Dropped() > 0 || stats.Forwarded == 0 {
		t.Errorf("forwarded %d, dropped %v", stats.Forwarded, stats.Drops)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
