package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	"sluice/engine/api"
	"sluice/tools/e2e/testbed"
)

// healthChecked returns a configuration of the HTTP service of one path, with frequent checks.
func healthChecked(t *testing.T, p testbed.Path) testbed.Config {
	t.Helper()
	cfg := config(t, p)
	cfg.Services = cfg.Services[:1]
	cfg.Services[0].Health = map[string]any{
		"type": "http", "path": "/healthz", "interval": "50ms", "timeout": "1s", "fall": 2, "rise": 2,
	}
	return cfg
}

// dies kills backends' servers; the end of the test starts them again.
func dies(t *testing.T, b *testbed.Bed, numbers ...int) {
	t.Helper()
	for _, n := range numbers {
		must(t, b.Backends[n].Kill())
		t.Cleanup(func() {
			b.Backends[n].Kill() // or it runs already
			must(t, b.Backends[n].Start(ctxOf(t)))
		})
	}
}

// awaitStates waits until the first service's backends, and its sorry server, are in these states.
func awaitStates(t *testing.T, d *testbed.Daemon, want string) (s api.Service) {
	t.Helper()
	poll(t, "states "+want, func() error {
		services, err := d.API.List(ctxOf(t))
		if err != nil {
			return err
		}
		s = services[0]
		got := ""
		for _, b := range s.Backends {
			got += " " + b.State
			if b.Protected {
				got += "/protected"
			}
		}
		if s.Sorry != nil {
			got += " sorry " + s.Sorry.State
		}
		if got = strings.TrimSpace(got); got != want {
			return fmt.Errorf("they are %s", got)
		}
		return nil
	})
	return s
}

// TestMinHealthy: dead servers are taken out as long as enough are left. Then the rest stays in
// use, with an alarm. A freeze holds that state. Connections to live servers are not disturbed.
func TestMinHealthy(t *testing.T) {
	b := bed(t)
	d := start(t, b, healthChecked(t, nat4))
	awaitStates(t, d, "up up up")
	var living []*testbed.Held
	for _, h := range hold(t, b, nat4.URL(), 6) {
		if h.Backend == "b1" {
			living = append(living, h)
		}
	}
	dies(t, b, 1)
	s := awaitStates(t, d, "up down up")
	if dead := s.Backends[1]; !strings.Contains(dead.Reason, "connection refused") || len(s.Alarms) != 0 {
		t.Errorf("%+v, alarms %v", dead, s.Alarms)
	}
	wantSpread(t, b.Ask(ctxOf(t), nat4.URL(), 10), [3]int{5, 0, 5})
	dies(t, b, 2)
	awaitStates(t, d, "up down down/protected")
	if s := b.Ask(ctxOf(t), nat4.URL(), 10); s.By != [3]int{5, 0, 0} || s.Refused != 5 {
		t.Errorf("requests went %s; those to b3, which is in use, are refused by its kernel", &s)
	}
	moves(t, living...)
	report := jsonVerb[struct{ Alarms []api.Alarm }](t, d, "health")
	if len(report.Alarms) != 1 || report.Alarms[0].Kind != api.AlarmProtected || report.Alarms[0].Service != "web-nat4" {
		t.Errorf("health gives %+v", report)
	}
	if n := strings.Count(d.Process.Output(), "alarm raised"); n != 1 {
		t.Errorf("the log has %d alarms", n)
	}

	_, err := d.Verb(ctxOf(t), "health", "freeze", "web-nat4")
	must(t, err)
	must(t, b.Backends[1].Start(ctxOf(t)))
	must(t, b.Backends[2].Start(ctxOf(t)))
	poll(t, "checks under the ice", func() error {
		s := awaitStates(t, d, "up down down/protected")
		if last := s.Backends[1].LastError + s.Backends[2].LastError; last != "" {
			return fmt.Errorf("the last check says %s", last)
		}
		return nil
	})
	_, err = d.Verb(ctxOf(t), "health", "thaw", "web-nat4")
	must(t, err)
	s = awaitStates(t, d, "up up up")
	if len(s.Alarms) != 0 || s.HealthFrozen {
		t.Errorf("afterwards: %+v", s)
	}
	wantSpread(t, b.Ask(ctxOf(t), nat4.URL(), 9), [3]int{3, 3, 3})
	moves(t, living...)
}

// TestSorryServer: while no backend is up, and only then, the sorry server answers, in nat and in
// dr.
func TestSorryServer(t *testing.T) {
	for _, p := range []testbed.Path{nat4, testbed.Paths[5]} { // and dr6
		t.Run(p.String(), func(t *testing.T) {
			b := bed(t)
			cfg := healthChecked(t, p)
			web := &cfg.Services[0]
			sorry := web.Backends[2]
			web.Sorry, web.Backends = &sorry, web.Backends[:2]
			d := start(t, b, cfg)
			awaitStates(t, d, "up up sorry standby")
			wantSpread(t, b.Ask(ctxOf(t), p.URL(), 4), [3]int{2, 2, 0})
			dies(t, b, 0, 1)
			awaitStates(t, d, "down down sorry up")
			wantSpread(t, b.Ask(ctxOf(t), p.URL(), 4), [3]int{0, 0, 4})
			must(t, b.Backends[1].Start(ctxOf(t)))
			awaitStates(t, d, "down up sorry standby")
			wantSpread(t, b.Ask(ctxOf(t), p.URL(), 4), [3]int{0, 4, 0})
		})
	}
}

// TestSlowStart: a server that has recovered first gets a sixteenth of the others' connections.
func TestSlowStart(t *testing.T) {
	b := bed(t)
	cfg := healthChecked(t, nat4)
	cfg.Services[0].Scheduler, cfg.Services[0].SlowStart = "wrr", "1h"
	d := start(t, b, cfg)
	awaitStates(t, d, "up up up")
	wantSpread(t, b.Ask(ctxOf(t), nat4.URL(), 9), [3]int{3, 3, 3})
	dies(t, b, 1)
	awaitStates(t, d, "up down up")
	must(t, b.Backends[1].Start(ctxOf(t)))
	awaitStates(t, d, "up up up")
	wantSpread(t, b.Ask(ctxOf(t), nat4.URL(), 33), [3]int{16, 1, 16})
}
