package e2e_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"

	"sluice/tools/e2e/testbed"
)

// goes lists the paths for tests about backends that come and go: Sluice sees both directions, or
// one.
var goes = []testbed.Path{testbed.Paths[0], testbed.Paths[1], testbed.Paths[5]} // nat4, tun4, dr6

// TestDrain: a drained backend keeps its connections and gets no new ones; with a weight it gets
// them again.
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

// TestBackendKilled: when a backend's process is killed, its connections break and new ones to it
// are refused. Connections to other backends are not disturbed.
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

// TestPortComesBack: a client uses its port again with a backend that still has it in TIME_WAIT.
// The backend answers the SYN with an ACK, the client resets that and sends its SYN again. All that
// is one connection, to one backend, and takes one turn of round robin.
func TestPortComesBack(t *testing.T) {
	b := bed(t)
	paths := []testbed.Path{testbed.Paths[0], testbed.Paths[3]} // Sluice sees the backend's packets
	start(t, b, config(t, paths...))
	for _, p := range paths {
		t.Run(p.String(), func(t *testing.T) {
			ctx := ctxOf(t)
			local, first := closedByServer(t, b, p)
			next := b.Ask(ctx, p.URL(), 2).Turns
			server := b.Backends[first[1]-'1']
			must(t, server.Kill())
			t.Cleanup(func() { must(t, server.Start(ctxOf(t))) })
			c, err := b.Client.DialFrom(ctx, "tcp", local, web(p))
			if !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("from %s again, to %s, which is dead: %v, %v", local, first, c, err)
			}
			turns := b.Ask(ctx, p.URL(), 1).Turns
			if len(next) != 2 || len(turns) != 1 || turns[0][:2] != next[0][:2] {
				t.Errorf("after %s came %v, but after it was refused %v", first, next, turns)
			}
		})
	}
}

// closedByServer asks once; the server closes the connection first. It returns the client's end and
// the name of the backend.
func closedByServer(t *testing.T, b *testbed.Bed, p testbed.Path) (local, backend string) {
	t.Helper()
	c, err := b.Client.Dial(ctxOf(t), "tcp", web(p))
	must(t, err)
	defer c.Close()
	_, err = fmt.Fprintf(c, "GET / HTTP/1.0\r\n\r\n")
	must(t, err)
	text, err := io.ReadAll(c)
	must(t, err)
	_, name, _ := strings.Cut(string(text), "name=")
	return c.LocalAddr().String(), name[:2]
}
