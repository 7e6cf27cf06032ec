package e2e_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"sluice/pipeline/counter"
	"sluice/tools/e2e/testbed"
	"sluice/tools/netlab/loadgen"
)

// TestFullNATAtItsLimit has as many real connections open at once as there are ports from one
// source address to one backend: 64,512, when the address is not one of the balancer's kernel.
// Further connections are dropped under their name and disturb no other, and all ports become free
// again: as many connections are opened again.
func TestFullNATAtItsLimit(t *testing.T) {
	const (
		ports = 65536 - 1024
		more  = 400 // connections than there are ports
		// Each end is spread over processes, which may be limited to 20,000 open files. A server
		// gets its portion of the connections by their hash: 16,128, and rarely 400 more or less.
		processes  = 4
		serverPort = 7000
		clientPort = 1024 // and up
	)
	b := newBed(t, testbed.Options{Name: "e2e-loadgen"})
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()

	// The backend reaches the source by its default route.
	source := netip.MustParseAddr("10.3.0.1")
	path := testbed.FullNATPaths[0]
	cfg := config(t, path)
	cfg.Engine.Connections = 1 << 17
	service := path.Web()
	service.Source = []string{source.String()}
	service.Backends = []testbed.Server{{Address: b.Backends[0].Addr(4).String(), Port: serverPort}}
	// A connection ends by RST. A lost RST is not sent again; then the FIN before it ends the
	// connection.
	service.Timeouts = map[string]string{"tcp_close": "1s", "tcp_fin_wait": "5s"}
	cfg.Services = []testbed.Service{service}
	d := start(t, b, cfg)

	servers, err := loadgen.Serve(ctx, b.Backends[0].Host, netip.AddrPortFrom(b.Backends[0].Addr(4), serverPort).String(), processes)
	must(t, err)
	locals := []netip.Addr{path.Client()}
	for len(locals) < processes {
		next := locals[len(locals)-1].Next()
		must(t, b.Client.Addr("eth0", netip.PrefixFrom(next, 24).String()))
		locals = append(locals, next)
	}
	clients, err := loadgen.Connect(ctx, b.Client, locals, service.Endpoint())
	must(t, err)
	all := func(what string, do func(context.Context) (int, error)) {
		t.Helper()
		began := time.Now()
		n, err := do(ctx)
		t.Logf("%d connections %s within %.1f s", n, what, time.Since(began).Seconds())
		if n != ports || err != nil {
			by, _ := drops(ctx, d)
			t.Fatalf("not all of %d: %v; drops: %v", ports, err, by)
		}
	}
	open := func(ctx context.Context) (int, error) { return clients.Open(ctx, clientPort, ports) }
	// counted checks the number of connections at the balancer and at the backend.
	counted := func(n uint32) {
		t.Helper()
		poll(t, fmt.Sprintf("%d connections to be counted", n), func() error {
			held, peers, err := servers.Held(ctx)
			if err != nil {
				return err
			}
			services, err := d.API.List(ctx)
			if err != nil {
				return err
			}
			be := services[0].Backends[0]
			if uint32(held) != n || be.Active != n || be.Inactive != 0 || n > 0 && !slices.Equal(peers, []netip.Addr{source}) {
				return fmt.Errorf("the backend has %d, from %v; the balancer %d active and %d inactive", held, peers, be.Active, be.Inactive)
			}
			return nil
		})
	}

	all("opened", open)
	counted(ports)
	if by, err := drops(ctx, d); err != nil || len(by) > 0 {
		t.Errorf("drops before the ports were all in use: %v, %v", by, err)
	}
	all("echoed", clients.Echo)

	exhausted := counter.SNATExhausted.String()
	if sent, err := clients.SendSYNs(ctx, clientPort+ports/processes, more); sent != more {
		t.Fatalf("%d of %d connections too many were begun: %v", sent, more, err)
	}
	poll(t, "those without a port to be dropped", func() error {
		by, err := drops(ctx, d)
		if err == nil && by[exhausted] < more {
			err = fmt.Errorf("drops: %v, want at least %d of %s", by, more, exhausted)
		}
		return err
	})
	all("echoed while others had no port", clients.Echo)
	if opened, err := clients.Abort(ctx); opened != 0 || err != nil {
		t.Errorf("%d connections were opened without a port: %v", opened, err)
	}
	counted(ports)
	_, err = d.Quiet(ctx) // the last SYN of aborted connections must come before ports are free
	must(t, err)
	before, err := drops(ctx, d)
	if err != nil || len(before) != 1 {
		t.Errorf("drops by other names than %s: %v, %v", exhausted, before, err)
	}

	all("closed", clients.Close)
	counted(0)
	all("opened again", open)
	all("echoed", clients.Echo)
	counted(ports)
	if after, err := drops(ctx, d); err != nil || after[exhausted] != before[exhausted] {
		t.Errorf("not all ports had come back: drops were %v, and now are %v, %v", before, after, err)
	}
	// If the processes just ended, the kernel would keep orphaned sockets that retransmit to each
	// other.
	all("closed again", clients.Close)
	finish(t, b, d)
}
