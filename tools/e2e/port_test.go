package e2e_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/engine/api"
	"sluice/tools/e2e/testbed"
	"sluice/tools/netlab"
)

// TestOneArm: with one port, everything is received and sent there.
func TestOneArm(t *testing.T) {
	b := newBed(t, testbed.Options{Name: "e2e-arm"})
	must(t, b.OneArm())
	cfg := config(t, testbed.Paths...)
	cfg.Ports = []testbed.Port{{Name: testbed.Back}}
	start(t, b, cfg)
	for _, p := range testbed.Paths {
		t.Run(p.String(), func(t *testing.T) { carry(t, b, p) })
	}
}

// TestGeneric: generic XDP, for interfaces with drivers without XDP, also carries everything.
func TestGeneric(t *testing.T) {
	b := bed(t)
	cfg := config(t, testbed.Paths...)
	cfg.Ports = []testbed.Port{{Name: testbed.Front, IO: api.IOGeneric}, {Name: testbed.Back, IO: api.IOGeneric}}
	d := start(t, b, cfg)
	stats, err := d.API.Stats(ctxOf(t))
	must(t, err)
	for _, p := range stats.Ports {
		if p.IO != api.IOGeneric {
			t.Errorf("port %s has mode %s", p.Name, p.IO)
		}
	}
	for _, p := range testbed.Paths {
		t.Run(p.String(), func(t *testing.T) { carry(t, b, p) })
	}
}

// TestNoZeroCopy: zero-copy on a driver without it is refused, with the reason, if the
// configuration requires it.
func TestNoZeroCopy(t *testing.T) {
	b := bed(t)
	cfg := config(t, nat4)
	cfg.Ports[0].IO = api.IOZeroCopy
	d, err := b.Launch(cfg)
	must(t, err)
	select {
	case <-d.Process.Ended():
	case <-ctxOf(t).Done():
		t.Fatal("it runs")
	}
	if said := d.Process.Output(); !strings.Contains(said, testbed.Front) || !strings.Contains(said, api.IOZeroCopy) {
		t.Errorf("it doesn't say that %s has no zero-copy mode:\n%s", testbed.Front, said)
	}
	must(t, b.AwaitNoXDP(ctxOf(t), nil))
}

// TestAddressOnPort: a service's address may be the first port's own, for which the kernel answers
// ARP and neighbour solicitations.
func TestAddressOnPort(t *testing.T) {
	b := newBed(t, testbed.Options{Name: "e2e-onlink"})
	paths := []testbed.Path{nat4, testbed.Paths[3]}
	cfg := config(t, paths...)
	for i := range cfg.Services {
		p := paths[i/2]
		cfg.Services[i].Address = testbed.OnLink(p.Family).String()
	}
	for _, p := range paths {
		must(t, b.Balancer.Addr(testbed.Front, fmt.Sprintf("%s/%d", testbed.OnLink(p.Family), testbed.OnLink(p.Family).BitLen())))
	}
	start(t, b, cfg)
	for i := range paths {
		wantSpread(t, b.Ask(ctxOf(t), "http://"+cfg.Services[2*i].Endpoint(), 6), [3]int{2, 2, 2})
		wantSpread(t, b.AskUDP(ctxOf(t), cfg.Services[2*i+1].Endpoint(), 6), [3]int{2, 2, 2})
	}
}

// TestPortGone: when an interface is removed, the daemon logs it, continues with the other and does
// not spin. A new interface with the same name is used.
func TestPortGone(t *testing.T) {
	b := newBed(t, testbed.Options{Name: "e2e-gone"})
	d := start(t, b, config(t, testbed.Paths...))
	wantSpread(t, b.Ask(ctxOf(t), nat4.URL(), 6), [3]int{2, 2, 2})
	mac, err := b.Balancer.MAC(testbed.Back)
	must(t, err)
	must(t, b.Balancer.LinkDel(testbed.Back))
	_, err = d.Process.WaitLine(ctxOf(t), "gone")
	must(t, err)
	soon, cancel := context.WithTimeout(ctxOf(t), 300*time.Millisecond)
	defer cancel()
	b.Ask(soon, nat4.URL(), 1) // to nowhere
	_, err = d.Quiet(ctxOf(t))
	must(t, err)
	const watched = time.Second
	before := cpuTime(t, d)
	time.Sleep(watched) // event: none, because nothing must happen
	if used := cpuTime(t, d) - before; used > watched/4 {
		t.Errorf("without its port the idle daemon used %v of %v", used, watched)
	}

	must(t, b.Lab.Link(b.Router, "back", b.Balancer, testbed.Back, netlab.LinkOptions{}))
	setMAC(t, b.Balancer, testbed.Back, mac) // so that backends have its MAC address
	must(t, b.Replug())
	for _, p := range testbed.Paths {
		works(t, b, p)
	}
}
