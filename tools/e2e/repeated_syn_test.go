package e2e_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"sluice/tools/e2e/testbed"
	"sluice/tools/netlab/loadgen"
)

// TestLostSYNACKs: a tenth of the SYN-ACKs is lost on the way to the client, while two workers
// serve four queues of each port. The client's kernel sends the SYN again, by another queue, and
// yet every connection has one backend: none of ten thousand real ones is reset, in any mode.
func TestLostSYNACKs(t *testing.T) {
	const connections, port = 2500, 7000 // of each mode
	b := newBed(t, testbed.Options{Name: "e2e-synack", Queues: 4})
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	paths := []testbed.Path{{Mode: "nat", Family: 4, Backend: 4}, {Mode: "fullnat", Family: 4, Backend: 4},
		{Mode: "tun", Family: 4, Backend: 4}, {Mode: "dr", Family: 4, Backend: 4}}
	cfg := config(t)
	cfg.Engine.Cores = cores(t, 2)
	for _, p := range paths {
		s := p.Web()
		s.Port = port
		for i := range s.Backends {
			if s.Backends[i].Port != 0 {
				s.Backends[i].Port = port
			}
		}
		cfg.Services = append(cfg.Services, s)
	}
	d := start(t, b, cfg)
	for _, be := range b.Backends {
		for _, listen := range []netip.Addr{be.Addr(4), paths[2].Address(), paths[3].Address()} {
			_, err := loadgen.Serve(ctx, be.Host, netip.AddrPortFrom(listen, port).String(), 1)
			must(t, err)
		}
	}
	must(t, b.Client.LoseSYNACKs("eth0", 10))
	for i, p := range paths {
		t.Run(p.String(), func(t *testing.T) {
			clients, err := loadgen.Connect(ctx, b.Client, []netip.Addr{p.Client()}, cfg.Services[i].Endpoint())
			must(t, err)
			began := time.Now()
			for _, step := range []struct {
				what string
				do   func() (int, error)
			}{
				{"opened", func() (int, error) { return clients.Open(ctx, 2048+i*connections, connections) }},
				{"answered", func() (int, error) { return clients.Echo(ctx) }},
				{"closed", func() (int, error) { return clients.Close(ctx) }},
			} {
				n, err := step.do()
				if n != connections || err != nil {
					by, _ := drops(ctx, d)
					t.Fatalf("%d of %d connections were %s: %v; drops: %v", n, connections, step.what, err, by)
				}
			}
			t.Logf("%d connections within %.1f s", connections, time.Since(began).Seconds())
		})
	}
	s, err := d.Quiet(ctx)
	must(t, err)
	for _, w := range s.Workers {
		if w.Forwarded == 0 || w.HandOversOut == 0 {
			t.Errorf("worker %d forwarded %d packets and handed %d over", w.Worker, w.Forwarded, w.HandOversOut)
		}
	}
}
