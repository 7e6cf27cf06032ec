package e2e_test

import (
	"fmt"
	"net/netip"
	"testing"

	"sluice/tools/e2e/testbed"
	"sluice/tools/netlab/loadgen"
)

// hashedPort is the port of the services by mh and of their servers, which echo.
const hashedPort = 7000

// hashed returns a configuration with a service by mh in tun and one in dr, and starts their
// servers. The addresses are on no interface of a balancer, so that no kernel of one answers.
func hashed(t *testing.T, b *testbed.Bed) testbed.Config {
	t.Helper()
	cfg := config(t)
	for i, mode := range []string{"tun", "dr"} {
		s := testbed.Path{Mode: mode, Family: 4, Backend: 4}.Web()
		s.Address, s.Port, s.Scheduler, s.Hash = fmt.Sprint("198.51.100.", 130+i), hashedPort, "mh", "address-port"
		cfg.Services = append(cfg.Services, s)
		for _, be := range b.Backends {
			must(t, be.Host.AddLo(s.Address))
		}
	}
	for _, be := range b.Backends {
		_, err := loadgen.Serve(ctxOf(t), be.Host, fmt.Sprint("0.0.0.0:", hashedPort), 1)
		must(t, err)
	}
	return cfg
}

// hashedClients are connections to the services of hashed.
type hashedClients struct {
	t    *testing.T
	all  []*loadgen.Clients
	each int
}

// dialHashed opens so many connections to each service.
func dialHashed(t *testing.T, b *testbed.Bed, cfg testbed.Config, each int) *hashedClients {
	t.Helper()
	h := &hashedClients{t: t, each: each}
	for i, s := range cfg.Services {
		local := testbed.Path{Mode: s.Mode, Family: 4, Backend: 4}.Client()
		c, err := loadgen.Connect(ctxOf(t), b.Client, []netip.Addr{local}, s.Endpoint())
		must(t, err)
		_, err = c.Open(ctxOf(t), 10_000+i*each, each)
		must(t, err)
		h.all = append(h.all, c)
	}
	return h
}

// echo sends a message over each connection, another one each time, and checks what comes back.
func (h *hashedClients) echo(when string) {
	h.t.Helper()
	for _, c := range h.all {
		if n, err := c.Echo(ctxOf(h.t)); n != h.each || err != nil {
			h.t.Fatalf("%s: %d of %d connections go on: %v", when, n, h.each, err)
		}
	}
}

// TestTwoBalancers: a router spreads connections over two balancers that know nothing of each
// other. Each leaves and returns while connections in tun and dr by mh go on: the other one adopts
// those that come to it, at the backends that they have.
func TestTwoBalancers(t *testing.T) {
	b := newBed(t, testbed.Options{Name: "e2e-ecmp"})
	second, err := b.Second()
	must(t, err)
	cfg := hashed(t, b)
	daemons := [2]*testbed.Daemon{start(t, b, cfg), start(t, second, cfg)}
	adopted := func(i int) uint64 {
		s, err := daemons[i].API.Stats(ctxOf(t))
		must(t, err)
		if s.Replied != 0 {
			t.Errorf("balancer %d has answered %d packets", i+1, s.Replied)
		}
		return s.Adopted
	}
	must(t, b.Spread(true, true))
	sent := resets(t, b.Client)
	clients := dialHashed(t, b, cfg, 30)
	clients.echo("both balancers")
	for i := range daemons {
		if s, err := daemons[i].API.Stats(ctxOf(t)); err != nil || s.Forwarded == 0 {
			t.Fatalf("balancer %d has no connections: %v", i+1, err)
		}
	}
	for i := range daemons {
		stays := 1 - i
		before := adopted(stays)
		must(t, b.Spread(i != 0, i != 1))
		clients.echo(fmt.Sprintf("balancer %d has left", i+1))
		clients.echo(fmt.Sprintf("balancer %d has left, again", i+1))
		if after := adopted(stays); after <= before {
			t.Errorf("balancer %d has adopted %d connections, and had before", stays+1, after)
		}
		must(t, b.Spread(true, true))
		clients.echo(fmt.Sprintf("balancer %d is back", i+1))
	}
	if n := resets(t, b.Client) - sent; n != 0 {
		t.Errorf("the client sent %d resets", n)
	}
}

// TestAdoptMany: a thousand connections in tun and dr by mh go on after the daemon was killed and
// started again without any state.
func TestAdoptMany(t *testing.T) {
	b := newBed(t, testbed.Options{Name: "e2e-adoptmany"})
	cfg := hashed(t, b)
	d := start(t, b, cfg)
	sent := resets(t, b.Client)
	clients := dialHashed(t, b, cfg, 500)
	clients.echo("before")
	loaded, err := b.XDP()
	must(t, err)
	must(t, d.Process.Kill())
	must(t, b.AwaitNoXDP(ctxOf(t), loaded))
	must(t, d.Restart(ctxOf(t)))
	clients.echo("after the restart")
	s, err := d.API.Stats(ctxOf(t))
	must(t, err)
	if s.Adopted < 1000 || s.Replied != 0 {
		t.Errorf("%d connections were adopted, and %d packets answered", s.Adopted, s.Replied)
	}
	if n := resets(t, b.Client) - sent; n != 0 {
		t.Errorf("the client sent %d resets", n)
	}
}
