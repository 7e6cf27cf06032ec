package e2e_test

import (
	"testing"

	"sluice/tools/e2e/testbed"
)

// TestPaths: every mode in both families carries requests, transfers in both directions and
// datagrams; round robin uses all backends, and the backends see the client's address, or with
// fullnat the balancer's.
func TestPaths(t *testing.T) {
	b := bed(t)
	start(t, b, config(t, testbed.AllPaths...))
	for _, p := range testbed.AllPaths {
		t.Run(p.String(), func(t *testing.T) { carry(t, b, p) })
	}
}

// carry sends requests, transfers and datagrams over a path. Round robin is exact.
func carry(t *testing.T, b *testbed.Bed, p testbed.Path) {
	t.Helper()
	ctx := ctxOf(t)
	for name, s := range map[string]testbed.Spread{
		"HTTP": b.Ask(ctx, p.URL(), 60),
		"UDP":  b.AskUDP(ctx, p.UDP(), 60),
	} {
		if s.Answered() != 60 {
			t.Errorf("%s: of 60 requests %s were answered", name, &s)
		}
		for i, n := range s.By {
			if n != 20 {
				t.Errorf("%s: b%d answered %d of 60 requests", name, i+1, n)
			}
		}
		if len(s.Clients) != 1 || s.Clients[p.Seen()] != 60 {
			t.Errorf("%s: the backends took for the client %v, and it is %s", name, s.Clients, p.Seen())
		}
	}
	const bytes = 8 << 20
	if err := b.Upload(ctx, p.URL(), bytes, 1); err != nil {
		t.Error(err)
	}
	if err := b.Download(ctx, p.URL(), bytes, 2); err != nil {
		t.Error(err)
	}
}

// TestTwoWorkers: the same with two workers. With two queues a NAT reply arrives half of the time
// at a worker that does not own its connection. With one queue, a worker that owns half of all
// connections has no queue at all.
func TestTwoWorkers(t *testing.T) {
	for name, queues := range map[string]int{"one queue": 1, "two queues": 2} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, testbed.Options{Name: "e2e-workers", Queues: queues})
			cfg := config(t, testbed.AllPaths...)
			cfg.Engine.Cores = cores(t, 2)
			d := start(t, b, cfg)
			for _, p := range testbed.AllPaths {
				t.Run(p.String(), func(t *testing.T) { carry(t, b, p) })
			}
			t.Run("many", func(t *testing.T) { many(t, b) })
			t.Run("drain", func(t *testing.T) { drainWorkers(t, b, d) })
			s, err := d.Quiet(ctxOf(t))
			must(t, err)
			in, out := uint64(0), uint64(0)
			for _, w := range s.Workers {
				in, out = in+w.HandOversIn, out+w.HandOversOut
				if w.Forwarded == 0 {
					t.Errorf("worker %d forwarded nothing", w.Worker)
				}
			}
			if in == 0 || in != out {
				t.Errorf("%d frames were handed over, %d were taken", out, in)
			}
		})
	}
}

// many makes many clients download at once, over all paths.
func many(t *testing.T, b *testbed.Bed) {
	const clients, bytes = 64, 256 << 10
	ctx := ctxOf(t)
	failures := make(chan error)
	for i := range clients {
		p := testbed.Paths[i%len(testbed.Paths)]
		go func() { failures <- b.Download(ctx, p.URL(), bytes, uint64(i)) }()
	}
	for range clients {
		if err := <-failures; err != nil {
			t.Error(err)
		}
	}
}

// drainWorkers: a drain holds for all workers at once.
func drainWorkers(t *testing.T, b *testbed.Bed, d *testbed.Daemon) {
	held := hold(t, b, nat4.URL(), 12)
	_, err := d.Verb(ctxOf(t), "drain", nat4.Web().Name, b.Backends[1].Addr(4).String())
	must(t, err)
	if s := b.Ask(ctxOf(t), nat4.URL(), 30); s.By[1] != 0 || s.Answered() != 30 {
		t.Errorf("with b2 drained, requests went %s", &s)
	}
	moves(t, held...)
}
