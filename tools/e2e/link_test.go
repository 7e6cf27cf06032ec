package e2e_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"sluice/tools/e2e/testbed"
	"sluice/tools/netlab"
)

// works waits until requests over a path are answered again.
func works(t *testing.T, b *testbed.Bed, p testbed.Path) {
	t.Helper()
	poll(t, p.String(), func() error {
		if s := b.Ask(ctxOf(t), p.URL(), 3); s.Answered() != 3 {
			return fmt.Errorf("3 requests went %s", &s)
		}
		return nil
	})
}

// TestLinkDown: a port that loses its carrier, or is set down, works again when it is up;
// connections wait.
func TestLinkDown(t *testing.T) {
	b := bed(t)
	d := start(t, b, config(t, goes...))
	held := holdAll(t, b, goes, 1)
	for _, c := range []struct {
		what      string
		down, up  func() error
		port      string
		downAgain int
	}{
		{"front carrier", func() error { return b.Router.LinkDown("front") }, func() error { return b.Router.LinkUp("front") }, testbed.Front, 1},
		{"back carrier", func() error { return b.Router.LinkDown("back") }, func() error { return b.Router.LinkUp("back") }, testbed.Back, 1},
		{"front port", func() error { return b.Balancer.LinkDown(testbed.Front) }, func() error { return b.Balancer.LinkUp(testbed.Front) }, testbed.Front, 1},
		{"back port", func() error { return b.Balancer.LinkDown(testbed.Back) }, func() error { return b.Balancer.LinkUp(testbed.Back) }, testbed.Back, 3},
	} {
		t.Log(c.what)
		for range c.downAgain {
			must(t, c.down())
			poll(t, c.what+" down", portIs(t, d, c.port, false))
			must(t, c.up())
			must(t, b.Route()) // the kernel forgets the routes of a link that is down
			poll(t, c.what+" up", portIs(t, d, c.port, true))
		}
		for _, p := range goes {
			works(t, b, p)
		}
		moves(t, held...)
	}
}

// portIs waits until the daemon reports a port as up or down.
func portIs(t *testing.T, d *testbed.Daemon, port string, up bool) func() error {
	return func() error {
		stats, err := d.API.Stats(ctxOf(t))
		for _, p := range stats.Ports {
			if p.Name == port && p.Up != up {
				err = errors.Join(err, fmt.Errorf("port %s: up is %v", p.Name, p.Up))
			}
		}
		return err
	}
}

// TestNeighbourMoves: when a backend announces another MAC address, its packets go there.
func TestNeighbourMoves(t *testing.T) {
	b := bed(t)
	paths := testbed.Paths // all modes, both families
	cfg := config(t, paths...)
	for i := range cfg.Services {
		cfg.Services[i].Backends = cfg.Services[i].Backends[:1]
	}
	start(t, b, cfg)
	old, err := b.Backends[0].Host.MAC("eth0")
	must(t, err)
	for _, key := range []string{"net.ipv4.conf.eth0.arp_notify", "net.ipv6.conf.eth0.ndisc_notify"} {
		must(t, b.Backends[0].Host.Sysctl(key, "1"))
	}
	t.Cleanup(func() { setMAC(t, b.Backends[0].Host, "eth0", old) })
	for _, mac := range []string{"02:00:00:00:00:01", "02:00:00:00:00:02"} {
		for _, p := range paths {
			wantSpread(t, b.Ask(ctxOf(t), p.URL(), 2), [3]int{2, 0, 0})
		}
		other, err := net.ParseMAC(mac)
		must(t, err)
		setMAC(t, b.Backends[0].Host, "eth0", other)
		for _, p := range paths {
			works(t, b, p)
		}
	}
}

// setMAC gives an interface another MAC address.
func setMAC(t *testing.T, h *netlab.Host, ifname string, mac net.HardwareAddr) {
	t.Helper()
	must(t, h.Do(func() error {
		link, err := netlink.LinkByName(ifname)
		if err != nil {
			return err
		}
		return netlink.LinkSetHardwareAddr(link, mac)
	}))
}

// TestUnreachableBackend: a backend of which the link is cut is down without a check, with its
// reason and an alarm; its connections continue when it is back, and it is up again.
func TestUnreachableBackend(t *testing.T) {
	b := bed(t)
	for _, p := range []testbed.Path{testbed.Paths[0], testbed.Paths[5]} { // nat4, dr6
		t.Run(p.String(), func(t *testing.T) {
			cfg := config(t, p)
			cfg.Services = cfg.Services[:1]
			cfg.Services[0].Backends = cfg.Services[0].Backends[:1]
			d := start(t, b, cfg)
			awaitStates(t, d, "up")
			works(t, b, p)
			must(t, b.Router.LinkDown("b1"))
			t.Cleanup(func() { must(t, b.Router.LinkUp("b1")) })
			b.Balancer.NeighDel(testbed.Back, b.Backends[0].Addr(p.Backend).String())
			awaitStates(t, d, "down")
			services, err := d.API.List(ctxOf(t))
			must(t, err)
			be := services[0].Backends[0]
			if !strings.HasPrefix(be.Reason, "no neighbour since ") {
				t.Errorf("%+v", be)
			}
			alarms, err := d.API.Alarms(ctxOf(t))
			must(t, err)
			kinds := ""
			for _, a := range alarms {
				kinds += a.Kind + " "
			}
			if kinds != "no_backend backend_unreachable " {
				t.Errorf("alarms: %s", kinds)
			}
			must(t, b.Router.LinkUp("b1"))
			awaitStates(t, d, "up")
			works(t, b, p)
		})
	}
}
