package e2e_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"sluice/engine/api"
	"sluice/tools/e2e/testbed"
	"sluice/tools/netlab"
	"sluice/tools/netlab/backend"
)

// through lists the paths on which both directions pass the balancer.
var through = []testbed.Path{testbed.Paths[0], testbed.Paths[3], testbed.FullNATPaths[0], testbed.FullNATPaths[1]}

// checked returns a configuration with checks so frequent that backends are down within half a
// second.
func checked(t *testing.T, how string, paths ...testbed.Path) testbed.Config {
	cfg := config(t, paths...)
	for i := range cfg.Services {
		cfg.Services[i].Health = map[string]any{
			"type": how, "port": testbed.NATWebPort, "interval": "200ms", "timeout": "100ms", "rise": 1, "fall": 2,
		}
	}
	return cfg
}

// idle is a connection of a client that has carried one request and is idle since.
type idle struct {
	net.Conn
	in      *bufio.Reader
	backend string
}

// openIdle opens a connection and makes one request.
func openIdle(ctx context.Context, b *testbed.Bed, url string) (*idle, error) {
	c, err := b.Client.Dial(ctx, "tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		return nil, err
	}
	i := &idle{Conn: c, in: bufio.NewReader(c)}
	if i.backend, err = i.ask(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return i, nil
}

// ask makes a request and returns the name of the backend that answers.
func (i *idle) ask(ctx context.Context) (string, error) {
	deadline, _ := ctx.Deadline()
	if err := i.SetDeadline(deadline); err != nil {
		return "", err
	}
	if _, err := io.WriteString(i, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return "", err
	}
	r, err := http.ReadResponse(i.in, nil)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	name, _, _ := strings.Cut(strings.TrimPrefix(string(body), "name="), " ")
	return name, err
}

// idles opens n connections that end with the test.
func idles(t *testing.T, b *testbed.Bed, url string, n int) (all []*idle) {
	t.Helper()
	for range n {
		i, err := openIdle(ctxOf(t), b, url)
		must(t, err)
		t.Cleanup(func() { i.Close() })
		all = append(all, i)
	}
	return all
}

// awaitState waits until every service has the backend in that state.
func awaitState(t *testing.T, d *testbed.Daemon, n int, state string) {
	t.Helper()
	poll(t, fmt.Sprintf("b%d to be %s", n+1, state), func() error {
		services, err := d.API.List(ctxOf(t))
		for _, s := range services {
			if s.Backends[n].State != state {
				err = errors.Join(err, fmt.Errorf("service %s: %s", s.Name, s.Backends[n].State))
			}
		}
		return err
	})
}

// wantReset waits until a connection is reset. Its client only reads.
func wantReset(t *testing.T, i *idle) {
	t.Helper()
	must(t, i.SetReadDeadline(time.Now().Add(waitLimit)))
	if _, err := i.in.ReadByte(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%s from %s ended with: %v", i.LocalAddr(), i.backend, err)
	}
}

// TestSilentHost: when a backend's host falls silent, the connections of clients that wait for its
// answers are reset, although they send nothing. Other connections continue. The flow of a UDP
// socket moves to another backend.
func TestSilentHost(t *testing.T) {
	b := bed(t)
	d := start(t, b, checked(t, "tcp", through...))
	awaitState(t, d, 1, api.StateUp)
	var all []*idle
	var sockets []net.Conn
	for _, p := range through {
		all = append(all, idles(t, b, p.URL(), 6)...)
		sockets = append(sockets, socketAt(t, b, p, "b2"))
	}
	must(t, b.Unplug("b2"))
	t.Cleanup(func() {
		must(t, b.Plug("b2"))
		must(t, b.Backends[1].Kill()) // it does not know, and would keep its ends
		must(t, b.Backends[1].Start(ctxOf(t)))
		awaitState(t, d, 1, api.StateUp)
	})
	awaitState(t, d, 1, api.StateDown)
	down, ended := time.Now(), 0
	for _, i := range all {
		if i.backend == "b2" {
			wantReset(t, i)
			ended++
		}
	}
	t.Logf("%d of %d connections were reset within %s", ended, len(all), time.Since(down))
	if ended != 2*len(through) {
		t.Errorf("%d connections were at b2", ended)
	}
	for _, i := range all {
		if i.backend != "b2" {
			if name, err := i.ask(ctxOf(t)); err != nil || name != i.backend {
				t.Errorf("connection to %s: %q, %v", i.backend, name, err)
			}
		}
	}
	for n, c := range sockets {
		if a, err := backend.AskUDP(ctxOf(t), c, []byte("again")); err != nil || a.Name == "b2" {
			t.Errorf("%s: the socket's flow: %v, %v", through[n], a.Name, err)
		}
	}
	for _, p := range through {
		s := b.Ask(ctxOf(t), p.URL(), 4)
		if s.By[1] != 0 || s.Answered() != 4 {
			t.Errorf("%s: requests went %s", p, &s)
		}
	}
}

// socketAt returns a UDP socket with a flow to that backend.
func socketAt(t *testing.T, b *testbed.Bed, p testbed.Path, name string) net.Conn {
	t.Helper()
	for range testbed.Backends {
		c, err := b.Client.Dial(ctxOf(t), "udp", p.UDP())
		must(t, err)
		t.Cleanup(func() { c.Close() })
		a, err := backend.AskUDP(ctxOf(t), c, []byte("who"))
		must(t, err)
		if a.Name == name {
			return c
		}
	}
	t.Fatalf("%s: no flow went to %s", p, name)
	return nil
}

// TestHungServer: when a backend's server hangs, its kernel continues: both ends of its connections
// are reset, so that none of them is left when it continues.
func TestHungServer(t *testing.T) {
	b := bed(t)
	d := start(t, b, checked(t, "http", through...))
	awaitState(t, d, 1, api.StateUp)
	before := established(t, b.Backends[1].Host)
	var all []*idle
	for _, p := range through {
		all = append(all, idles(t, b, p.URL(), 3)...)
	}
	theirs := established(t, b.Backends[1].Host)
	maps.DeleteFunc(theirs, func(inode uint32, _ bool) bool { return before[inode] })
	if len(theirs) < len(through) {
		t.Fatalf("b2 has %d connections, want %d", len(theirs), len(through))
	}
	must(t, b.Backends[1].Hang())
	t.Cleanup(func() { must(t, b.Backends[1].Resume()) })
	awaitState(t, d, 1, api.StateDown)
	for _, i := range all {
		if i.backend == "b2" {
			wantReset(t, i)
		} else if name, err := i.ask(ctxOf(t)); err != nil || name != i.backend {
			t.Errorf("connection to %s: %q, %v", i.backend, name, err)
		}
	}
	must(t, b.Backends[1].Resume())
	awaitState(t, d, 1, api.StateUp)
	awaitGone(t, b.Backends[1].Host, theirs)
}

// TestDrainDeadline: a drained backend keeps its connections until the deadline, when all of them
// are reset at both ends, whether they carry requests or wait.
func TestDrainDeadline(t *testing.T) {
	b := bed(t)
	d := start(t, b, config(t, through...))
	for _, p := range through {
		t.Run(p.String(), func(t *testing.T) {
			ctx := ctxOf(t)
			before := established(t, b.Backends[1].Host)
			all, busy := idles(t, b, p.URL(), 3), hold(t, b, p.URL(), 3)
			theirs := established(t, b.Backends[1].Host)
			maps.DeleteFunc(theirs, func(inode uint32, _ bool) bool { return before[inode] })
			if len(theirs) != 2 {
				t.Fatalf("b2 has %d connections, want 2", len(theirs))
			}
			drain := api.OverrideRequest{Service: p.Web().Name, Backend: b.Backends[1].Addr(p.Backend).String(), State: api.OverrideDrain}
			_, err := d.API.Override(ctx, drain)
			must(t, err)
			moves(t, busy...)
			drain.DeadlineS = 0.2
			_, err = d.API.Override(ctx, drain)
			must(t, err)
			for _, i := range all {
				if i.backend == "b2" {
					wantReset(t, i)
				}
			}
			for _, h := range busy {
				if h.Backend != "b2" {
					must(t, h.Moves(ctx, 5))
					continue
				}
				select {
				case <-h.Ended():
				case <-ctx.Done():
					t.Error("a busy connection goes on")
				}
			}
			awaitGone(t, b.Backends[1].Host, theirs)
			drain.State, drain.DeadlineS = api.OverrideEnable, 0
			_, err = d.API.Override(ctx, drain)
			must(t, err)
			wantSpread(t, b.Ask(ctx, p.URL(), 6), [3]int{2, 2, 2})
		})
	}
}

// awaitGone waits until a host has none of these sockets any more.
func awaitGone(t *testing.T, h *netlab.Host, sockets map[uint32]bool) {
	t.Helper()
	poll(t, h.Name()+" to have lost its connections", func() error {
		for inode := range established(t, h) {
			if sockets[inode] {
				return errors.New("one is left")
			}
		}
		return nil
	})
}

// established returns the connections of a host's web server, by socket number.
func established(t *testing.T, h *netlab.Host) map[uint32]bool {
	t.Helper()
	found := make(map[uint32]bool)
	must(t, h.Do(func() error {
		for _, family := range []uint8{syscall.AF_INET, syscall.AF_INET6} {
			all, err := netlink.SocketDiagTCP(family)
			if err != nil {
				return err
			}
			for _, s := range all {
				if s.State == netlink.TCP_ESTABLISHED && s.ID.SourcePort == testbed.NATWebPort {
					found[s.INode] = true
				}
			}
		}
		return nil
	}))
	return found
}
