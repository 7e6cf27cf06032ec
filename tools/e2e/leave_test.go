package e2e_test

import (
	"testing"

	"sluice/tools/e2e/testbed"
)

// goes are the paths for tests about backends that come and go: Sluice sees both directions, or one.
var goes = []testbed.Path{testbed.Paths[0], testbed.Paths[1], testbed.Paths[5]} // nat4, tun4, dr6

// TestDrain: a drained backend keeps its connections and gets no new ones; with a weight it gets them again.
func TestDrain(t *testing.T) {
	b := bed(t)
	d := start(t, b, config(t, goes...))
	for _, p := range goes {
		t.Run(p.String(), func(t *testing.T) {
			ctx := ctxOf(t)
			held := hold(t, b, p.URL(), 6)
			address := b.Backends[1].Addr(p.Backend).String()
			_, err := d.Verb(ctx, "drain", p.Web().Name, address)
			must(t, err)
			wantSpread(t, b.Ask(ctx, p.URL(), 30), [3]int{15, 0, 15})
			moves(t, held...)
			_, err = d.Verb(ctx, "weight", p.Web().Name, address, "1")
			must(t, err)
			wantSpread(t, b.Ask(ctx, p.URL(), 30), [3]int{10, 10, 10})
			moves(t, held...)
		})
	}
}

// TestBackendKilled: when a backend's process is killed, its connections break and new ones to it are refused;
// nobody else's are.
func TestBackendKilled(t *testing.T) {
	b := bed(t)
	start(t, b, config(t, goes...))
	for _, p := range goes {
		t.Run(p.String(), func(t *testing.T) {
			ctx := ctxOf(t)
			held := hold(t, b, p.URL(), 3)
			must(t, b.Backends[2].Kill())
			t.Cleanup(func() { must(t, b.Backends[2].Start(ctxOf(t))) })
			s := b.Ask(ctx, p.URL(), 30)
			if s.By != [3]int{10, 10, 0} || s.Refused != 10 || len(s.Errors) > 0 {
				t.Errorf("requests went %s, want 10/10/0 and 10 refused", &s)
			}
			for _, h := range held {
				if err := h.Moves(ctx, 5); (err != nil) != (h.Backend == "b3") {
					t.Errorf("the connection to %s: %v", h.Backend, err)
				}
			}
		})
	}
}
