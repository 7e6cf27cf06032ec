package loadgen_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"sluice/tools/leaks"
	"sluice/tools/netlab"
	"sluice/tools/netlab/loadgen"
)

const waitLimit = 30 * time.Second

func TestMain(m *testing.M) {
	loadgen.RunIfChild()
	leaks.Main(m)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func ctxOf(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	t.Cleanup(cancel)
	return ctx
}

// family is the same lab in IPv4 and in IPv6.
type family struct {
	name, clients1, clients2, servers, target, absent string
}

var families = []family{
	{"IPv4", "10.0.0.2/24", "10.0.0.3/24", "10.0.0.1/24", "10.0.0.1:7000", "10.0.0.9"},
	{"IPv6", "fd00::2/64", "fd00::3/64", "fd00::1/64", "[fd00::1]:7000", "fd00::9"},
}

// ends are two hosts with a wire between them.
type ends struct {
	clients, servers *netlab.Host
	locals           []netip.Addr
}

func newEnds(t *testing.T, f family) ends {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	lab, err := netlab.New("loadgen")
	must(t, err)
	t.Cleanup(func() { must(t, lab.Close()) })
	var e ends
	e.clients, err = lab.Host("clients")
	must(t, err)
	e.servers, err = lab.Host("servers")
	must(t, err)
	must(t, lab.Link(e.clients, "eth0", e.servers, "eth0", netlab.LinkOptions{}))
	must(t, e.clients.Addr("eth0", f.clients1, f.clients2))
	must(t, e.servers.Addr("eth0", f.servers))
	for _, cidr := range []string{f.clients1, f.clients2} {
		e.locals = append(e.locals, netip.MustParsePrefix(cidr).Addr())
	}
	return e
}

// want checks that something succeeded for all n connections.
func want(t *testing.T, what string, n, got int, err error) {
	t.Helper()
	if got != n || err != nil {
		t.Fatalf("%s: %d of %d connections, %v", what, got, n, err)
	}
}

// holds waits until the servers have n connections.
func holds(t *testing.T, s *loadgen.Servers, n int, peers ...netip.Addr) {
	t.Helper()
	for ctx := ctxOf(t); ; time.Sleep(5 * time.Millisecond) {
		held, from, err := s.Held(ctx)
		must(t, err)
		if held == n && slices.Equal(from, peers) {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("the servers hold %d connections from %v, want %d from %v", held, from, n, peers)
		}
	}
}

// TestEcho opens connections, echoes, closes them, and repeats this at once from the same ports.
func TestEcho(t *testing.T) {
	const n = 1001
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			e, ctx := newEnds(t, f), ctxOf(t)
			servers, err := loadgen.Serve(ctx, e.servers, f.target, 3)
			must(t, err)
			clients, err := loadgen.Connect(ctx, e.clients, e.locals, f.target)
			must(t, err)
			for range 2 {
				opened, err := clients.Open(ctx, 1024, n)
				want(t, "opened", n, opened, err)
				holds(t, servers, n, e.locals...)
				for range 2 {
					echoed, err := clients.Echo(ctx)
					want(t, "echoed", n, echoed, err)
				}
				left, err := clients.Close(ctx)
				want(t, "left", n, left, err)
				holds(t, servers, 0)
			}
			must(t, clients.Stop())
			must(t, servers.Stop())
		})
	}
}

// TestSendSYNs: Abort counts connections that were established, and no others.
func TestSendSYNs(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			e, ctx := newEnds(t, f), ctxOf(t)
			servers, err := loadgen.Serve(ctx, e.servers, f.target, 1)
			must(t, err)
			clients, err := loadgen.Connect(ctx, e.clients, e.locals, f.target)
			must(t, err)
			sent, err := clients.SendSYNs(ctx, 1024, 50)
			want(t, "sent", 50, sent, err)
			holds(t, servers, 50, e.locals...)
			opened, err := clients.Abort(ctx)
			want(t, "let in", 50, opened, err)
			holds(t, servers, 0)

			must(t, e.clients.Neigh("eth0", f.absent, net.HardwareAddr{2, 0, 0, 0, 0, 99}))
			unanswered, err := loadgen.Connect(ctx, e.clients, e.locals, netip.AddrPortFrom(netip.MustParseAddr(f.absent), 7000).String())
			must(t, err)
			sent, err = unanswered.SendSYNs(ctx, 1024, 50)
			want(t, "sent", 50, sent, err)
			opened, err = unanswered.Abort(ctx)
			want(t, "let in", 0, opened, err)
		})
	}
}

// TestBroken: broken connections and missing servers are reported.
func TestBroken(t *testing.T) {
	const n = 300
	e, ctx := newEnds(t, families[0]), ctxOf(t)
	target := families[0].target
	lost, err := loadgen.Serve(ctx, e.servers, target, 1)
	must(t, err)
	clients, err := loadgen.Connect(ctx, e.clients, e.locals, target)
	must(t, err)
	opened, err := clients.Open(ctx, 1024, n)
	want(t, "opened", n, opened, err)
	servers, err := loadgen.Serve(ctx, e.servers, target, 1)
	must(t, err)
	must(t, lost.Stop())
	opened, err = clients.Open(ctx, 2048, n)
	want(t, "opened", n, opened, err)
	if echoed, err := clients.Echo(ctx); echoed != n || err == nil {
		t.Errorf("with half of the connections broken, %d of %d echoed: %v", echoed, n, err)
	}
	echoed, err := clients.Echo(ctx)
	want(t, "echoed without the broken ones", n, echoed, err)
	must(t, servers.Stop())
	if opened, err := clients.Open(ctx, 4096, n); opened != 0 || err == nil {
		t.Errorf("without a server, %d connections were opened: %v", opened, err)
	}
}

// TestTraffic: connections talk, and others come and go, until the traffic ends; then all that were
// open before still are. Those that lose their server are counted.
func TestTraffic(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			e := newEnds(t, f)
			servers, err := loadgen.Serve(ctxOf(t), e.servers, f.target, 2)
			must(t, err)
			clients, err := loadgen.Connect(ctxOf(t), e.clients, e.locals, f.target)
			must(t, err)
			opened, err := clients.Open(ctxOf(t), 2000, 40)
			want(t, "open", 40, opened, err)
			traffic := loadgen.Traffic{
				Talking: 10, Every: 10 * time.Millisecond, Bytes: 1000, PerS: 50, First: 20000, Ports: 10000, GiveUp: waitLimit,
			}
			must(t, clients.Begin(ctxOf(t), traffic))
			await(t, clients, func(s loadgen.Sum) bool { return s.Echoed >= 500 && s.Opened >= 50 })
			sum, err := clients.End(ctxOf(t))
			must(t, err)
			if sum.Broken != 0 || sum.Failed != 0 || sum.Skipped != 0 || sum.Longest == 0 || sum.Slowest == 0 {
				t.Errorf("traffic came to %+v", sum)
			}
			echoed, err := clients.Echo(ctxOf(t))
			want(t, "echo", 40, echoed, err)

			must(t, clients.Begin(ctxOf(t), traffic))
			must(t, servers.Stop())
			await(t, clients, func(s loadgen.Sum) bool { return s.Broken == 20 && s.Failed > 0 && len(s.Why) > 0 })
			sum, err = clients.End(ctxOf(t))
			must(t, err)
			t.Logf("after the death of the servers: %+v", sum)
		})
	}
}

// await waits until the sum of the traffic is as it should be.
func await(t *testing.T, clients *loadgen.Clients, good func(loadgen.Sum) bool) {
	t.Helper()
	for ctx := ctxOf(t); ; time.Sleep(10 * time.Millisecond) {
		sum, err := clients.Sum(ctx)
		if err != nil {
			t.Fatalf("%+v, %v", sum, err)
		}
		if good(sum) {
			return
		}
	}
}
