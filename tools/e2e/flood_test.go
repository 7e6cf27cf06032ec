package e2e_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"sluice/engine/api"
	"sluice/tools/browser"
	"sluice/tools/e2e/flood"
	"sluice/tools/e2e/testbed"
)

// TestFlood: a flood of SYNs at one service, many times as many as the table holds, leaves
// connections to another unbroken and refuses none of its new ones, and few of the flooded service.
// Alarm, log, status, top and page name the flooded service while it lasts, and say what the flood
// does: in nat it fills the service's part of the table, in dr by mh it takes no entry.
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
	tokenFile := filepath.Join(t.TempDir(), "token")
	must(t, os.WriteFile(tokenFile, []byte(pageToken+"\n"), 0o600))
	cfg.API.HTTP, cfg.API.TokenFile = pageAddress, tokenFile
	d := start(t, b, cfg)
	page := browser.New(t).Open("http://"+bring(t, b.Balancer, pageAddress)+"/", browser.Screens[2])
	held := hold(t, b, otherURL, 6)
	must(t, held[0].Moves(ctxOf(t), 5))

	target := netip.AddrPortFrom(p.Address(), testbed.WebPort)
	at := flood.Cable{Host: b.Router, Ifname: "front", Peer: b.Balancer, PeerIf: testbed.Front}
	f, err := flood.Start(at, flood.Traffic{Target: target, Rate: 3000})
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
	kind, what := api.AlarmPressure, "find no (free )?entry"
	if p.Mode == "dr" {
		kind, what = api.AlarmFirst, "of them with one packet only"
	}
	poll(t, "the alarm", func() error { return alarmOn(t, d, kind, first.Name) })
	_, err = d.Process.WaitLine(ctxOf(t), "event=alarm_raised kind="+kind+" service="+first.Name)
	must(t, err)
	for _, verb := range [][]string{{"status"}, {"top", "--once"}} {
		text, _ := d.Verb(ctxOf(t), verb...) // the alarm makes the exit code of status 1
		if !regexp.MustCompile(first.Name + ".* [0-9.k]+ new (conns|connections|clients)/s,? .*" + what + ".* from ").MatchString(text) {
			t.Errorf("sluice %s does not say what the flood does to %s:\n%.3000s", verb[0], first.Name, text)
		}
	}
	page.Await(fmt.Sprintf(`[...document.querySelectorAll('.refused')].some(n => / new (connections|clients)\/s,? .*%s/.test(n.textContent) && n.offsetHeight > 0)`, what))
	wantAnswered(t, "the other service", b.Ask(ctxOf(t), otherURL, requests), requests)
	wantAnswered(t, "the flooded service", b.Ask(ctxOf(t), p.URL(), requests), requests*9/10)
	moves(t, held...)
	ended = true
	must(t, f.Stop())
	poll(t, "calm", func() error { return errors.Join(alarmOn(t, d, api.AlarmPressure), alarmOn(t, d, api.AlarmFirst)) })
	moves(t, held...)
	// In nat the last segment of a connection that has given way is answered by RST.
	if stats, err := d.API.Stats(ctxOf(t)); err != nil || p.Mode == "dr" && stats.Replied > 0 || stats.Rx < f.Sent()*9/10 {
		t.Errorf("%d packets of the flood were sent, and %d of all received; %d were answered: %v", f.Sent(), stats.Rx, stats.Replied, err)
	}
}

// alarmOn checks that the alarms of a kind are about these services.
func alarmOn(t *testing.T, d *testbed.Daemon, kind string, want ...string) error {
	t.Helper()
	status, err := d.API.Status(ctxOf(t))
	var named []string
	for _, a := range status.Alarms {
		if a.Kind == kind {
			named = append(named, a.Service)
		}
	}
	if err == nil && !slices.Equal(named, want) {
		err = fmt.Errorf("the alarm %s is about %v, want %v", kind, named, want)
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
