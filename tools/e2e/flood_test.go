package e2e_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"sluice/engine/api"
	"sluice/tools/e2e/flood"
	"sluice/tools/e2e/testbed"
)

// TestFlood: a flood of SYNs at one service, many times as many as the table holds, leaves
// connections to another unbroken and refuses none of its new ones, and few of the flooded service.
// In nat alarm and log name the flooded service while it lasts; in dr by mh the flood takes no
// entry, and neither says anything.
func TestFlood(t *testing.T) {
	b := bed(t)
	_, err := b.Router.LoseTOS("back", flood.Mark)
	must(t, err)
	for i, p := range []testbed.Path{nat4, {Mode: "dr", Family: 4, Backend: 4}} {
		t.Run(p.String(), func(t *testing.T) { flooded(t, b, p, netip.AddrFrom4([4]byte{198, 51, 100, byte(120 + i)})) })
	}
}

func flooded(t *testing.T, b *testbed.Bed, p testbed.Path, otherVIP netip.Addr) {
	const entries, requests = 1024, 20
	cfg := config(t, p)
	cfg.Engine.Connections = entries
	first, other := p.Web(), p.Web()
	other.Name, other.Address = "other", otherVIP.String()
	cfg.Services = []testbed.Service{first, other}
	for i := range cfg.Services {
		if p.Mode == "dr" {
			cfg.Services[i].Scheduler, cfg.Services[i].Hash = "mh", "address-port"
		}
	}
	if p.Mode == "dr" {
		for _, be := range b.Backends {
			must(t, be.Host.AddLo(otherVIP.String()))
		}
	}
	otherURL := "http://" + other.Endpoint()
	d := start(t, b, cfg)
	held := hold(t, b, otherURL, 6)
	must(t, held[0].Moves(ctxOf(t), 5))

	target := netip.AddrPortFrom(p.Address(), testbed.WebPort)
	at := flood.Cable{Host: b.Router, Ifname: "front", Peer: b.Balancer, PeerIf: testbed.Front}
	f, err := flood.Start(at, flood.Traffic{Target: target, Rate: 2000})
	must(t, err)
	ended := false
	defer func() {
		if !ended {
			must(t, f.Stop())
		}
	}()
	poll(t, "the flood is more than the table holds", func() error {
		stats, err := d.API.Stats(ctxOf(t))
		if err == nil && (stats.Forwarded < 3*entries || p.Mode == "nat" && stats.Displaced < entries) {
			return fmt.Errorf("%d packets forwarded, %d connections displaced", stats.Forwarded, stats.Displaced)
		}
		return err
	})
	if p.Mode == "nat" {
		poll(t, "the alarm", func() error { return pressureOn(t, d, first.Name) })
		_, err := d.Process.WaitLine(ctxOf(t), "event=alarm_raised kind=pressure service="+first.Name)
		must(t, err)
	}
	wantAnswered(t, "the other service", b.Ask(ctxOf(t), otherURL, requests), requests)
	wantAnswered(t, "the flooded service", b.Ask(ctxOf(t), p.URL(), requests), requests*9/10)
	moves(t, held...)
	ended = true
	must(t, f.Stop())
	poll(t, "calm", func() error { return pressureOn(t, d) })
	moves(t, held...)
	// In nat the last segment of a connection that has given way is answered by RST.
	if stats, err := d.API.Stats(ctxOf(t)); err != nil || p.Mode == "dr" && stats.Replied > 0 || stats.Rx < f.Sent()*9/10 {
		t.Errorf("%d packets of the flood were sent, and %d of all received; %d were answered: %v", f.Sent(), stats.Rx, stats.Replied, err)
	}
}

// pressureOn checks that the alarms about a full table are about these services.
func pressureOn(t *testing.T, d *testbed.Daemon, want ...string) error {
	t.Helper()
	status, err := d.API.Status(ctxOf(t))
	var named []string
	for _, a := range status.Alarms {
		if a.Kind == api.AlarmPressure {
			named = append(named, a.Service)
		}
	}
	if err == nil && !slices.Equal(named, want) {
		err = fmt.Errorf("the alarm is about %v, want %v", named, want)
	}
	return err
}

// wantAnswered checks that at least so many requests were answered.
func wantAnswered(t *testing.T, what string, s testbed.Spread, least int) {
	t.Helper()
	if s.Answered() < least {
		t.Errorf("%s: of the requests %d were answered, want %d: %v", what, s.Answered(), least, errors.Join(s.Errors...))
	}
}
