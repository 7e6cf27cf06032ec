package e2e_test

import (
	"fmt"
	"net/netip"
	"testing"

	"sluice/engine/api"
	"sluice/tools/e2e/testbed"
)

func url(p testbed.Path, port int) string {
	return fmt.Sprintf("http://%s", netip.AddrPortFrom(p.Address(), uint16(port)))
}

// TestPersistence: the same client gets the same backend, whatever the scheduler.
func TestPersistence(t *testing.T) {
	b := bed(t)
	cfg := config(t, goes...)
	for i := range cfg.Services {
		cfg.Services[i].Persistence = "60s"
	}
	start(t, b, cfg)
	for _, p := range goes {
		for name, s := range map[string]testbed.Spread{
			"HTTP": b.Ask(ctxOf(t), p.URL(), 20),
			"UDP":  b.AskUDP(ctxOf(t), p.UDP(), 20),
		} {
			if s.Answered() != 20 || max(s.By[0], s.By[1], s.By[2]) != 20 {
				t.Errorf("%s: %s requests went %s, want all 20 to one backend", p, name, &s)
			}
		}
	}
}

// TestPorts: a service may have a range of ports, or all; one port wins over both.
func TestPorts(t *testing.T) {
	b := bed(t)
	nat6, dr6 := testbed.Paths[3], testbed.Paths[5]
	cfg := config(t, nat4, nat6, dr4, dr6)
	var services []testbed.Service
	for _, p := range []testbed.Path{nat4, nat6} {
		ranged := p.Web()
		// The whole range goes to one port of the backends.
		ranged.Name, ranged.Port = "range-"+p.String(), "8000-8099"
		services = append(services, ranged, p.Web())
	}
	for _, p := range []testbed.Path{dr4, dr6} {
		any, web := p.Web(), p.Web()
		any.Name, any.Port = "any-"+p.String(), "any"
		web.Backends = web.Backends[:1]
		services = append(services, any, web)
	}
	cfg.Services = services
	start(t, b, cfg)
	ctx := ctxOf(t)
	for _, p := range []testbed.Path{nat4, nat6} {
		for _, port := range []int{8000, 8042, 8099, testbed.WebPort} {
			wantSpread(t, b.Ask(ctx, url(p, port), 6), [3]int{2, 2, 2})
		}
		if s := b.Ask(ctx, url(p, 8100), 2); s.Refused != 2 {
			t.Errorf("%s: requests beyond the range went %s; the balancer's kernel should refuse them", p, &s)
		}
	}
	for _, p := range []testbed.Path{dr4, dr6} {
		wantSpread(t, b.Ask(ctx, url(p, 8080), 6), [3]int{2, 2, 2})
		wantSpread(t, b.Ask(ctx, url(p, testbed.WebPort), 6), [3]int{6, 0, 0})
		if s := b.Ask(ctx, url(p, 4444), 3); s.Refused != 3 {
			t.Errorf("%s: requests to a port without a listener went %s; the backends should refuse them", p, &s)
		}
	}
}

// TestHealth: a backend with a dead server is taken out, and comes back with its server.
func TestHealth(t *testing.T) {
	b := bed(t)
	cfg := config(t, goes...)
	for i := range cfg.Services {
		if cfg.Services[i].Protocol == "tcp" {
			cfg.Services[i].Health = map[string]any{"type": "http", "path": "/healthz", "interval": "50ms", "timeout": "1s", "fall": 2, "rise": 2}
			// In nat the check goes to the backend's own address.
			if cfg.Services[i].Mode != "nat" {
				cfg.Services[i].Health["port"] = testbed.WebPort
			}
		}
	}
	d := start(t, b, cfg)
	state := func(want string) func() error {
		return func() error {
			services, err := d.API.List(ctxOf(t))
			if err != nil {
				return err
			}
			for _, s := range services {
				if s.Protocol == "tcp" && s.Backends[2].State != want {
					return fmt.Errorf("%s: b3 is %s, not %s (%s)", s.Name, s.Backends[2].State, want, s.Backends[2].LastError)
				}
			}
			return nil
		}
	}
	poll(t, "health", state(api.StateUp))
	must(t, b.Backends[2].Kill())
	t.Cleanup(func() { b.Backends[2].Kill(); must(t, b.Backends[2].Start(ctxOf(t))) })
	poll(t, "health of the dead", state(api.StateDown))
	for _, p := range goes {
		wantSpread(t, b.Ask(ctxOf(t), p.URL(), 10), [3]int{5, 5, 0})
	}
	must(t, b.Backends[2].Start(ctxOf(t)))
	poll(t, "health of the risen", state(api.StateUp))
	for _, p := range goes {
		wantSpread(t, b.Ask(ctxOf(t), p.URL(), 9), [3]int{3, 3, 3})
	}
}
