package health_test

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	. "sluice/engine/health"
	"sluice/pipeline/service"
	"sluice/tools/leaks"
)

func TestMain(m *testing.M) { leaks.Main(m) }

// id returns the ID of the n-th backend of a service.
func id(n byte) service.BackendID {
	return service.BackendID{
		Service: service.Key{Address: netip.MustParseAddr("198.51.100.10"), Ports: service.Ports{First: 80, Last: 80}, Protocol: service.TCP},
		Backend: service.BackendKey{Address: netip.AddrFrom4([4]byte{10, 0, 0, n}), Port: 80},
	}
}

// every2s is a check of the n-th backend every two seconds.
func every2s(n byte) Check {
	return Check{Type: TCP, Target: netip.AddrPortFrom(id(n).Backend.Address, 80), Interval: 2 * time.Second, Timeout: time.Second, Rise: 2, Fall: 3}
}

// world is the backends as the probes find them, and what the prober reported about them.
type world struct {
	mu     sync.Mutex
	broken map[netip.AddrPort]bool
	flips  bool // results alternate
	probes map[netip.AddrPort][]time.Time
	told   []State
	whom   []service.BackendID
	calls  int
}

func newWorld() *world {
	return &world{broken: make(map[netip.AddrPort]bool), probes: make(map[netip.AddrPort][]time.Time)}
}

func (w *world) prober() *Prober {
	return New(Config{Probe: w.probe, OnChange: func(id service.BackendID, before, now State) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.calls++
		if before.Up != now.Up {
			w.told = append(w.told, now)
			w.whom = append(w.whom, id)
		}
	}})
}

func (w *world) probe(_ context.Context, c Check) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.probes[c.Target] = append(w.probes[c.Target], time.Now())
	if w.flips {
		w.broken[c.Target] = !w.broken[c.Target]
	}
	if w.broken[c.Target] {
		return errors.New("broken")
	}
	return nil
}

func (w *world) breaks(n byte, broken bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken[every2s(n).Target] = broken
}

func (w *world) count(n byte) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.probes[every2s(n).Target])
}

func (w *world) tales() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.told)
}

func set(t *testing.T, p *Prober, checks map[service.BackendID]Check) {
	t.Helper()
	if err := p.Set(checks); err != nil {
		t.Fatal(err)
	}
}

func TestUpDownUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		p := w.prober()
		defer p.Close()
		began := time.Now()
		set(t, p, map[service.BackendID]Check{id(1): every2s(1), id(2): every2s(2)})
		if s := p.States()[id(1)]; !s.Up || s.Reason != "not checked yet" || s.Since != began {
			t.Errorf("at first: %+v", s)
		}
		time.Sleep(10 * time.Second)
		if n := w.count(1); n < 4 || n > 6 || w.tales() != 0 {
			t.Errorf("%d probes in 10 s at intervals of 2 s, %d changes", n, w.tales())
		}

		w.breaks(1, true)
		broke := time.Now()
		time.Sleep(10 * time.Second)
		s := p.States()[id(1)]
		if s.Up || s.Reason != "broken" || s.Since.Before(broke.Add(3500*time.Millisecond)) || s.Since.After(broke.Add(6*time.Second)) {
			t.Errorf("broken for 10 s: %+v, broke at %v", s, broke)
		}
		if !p.States()[id(2)].Up {
			t.Error("the other backend went down too")
		}

		w.breaks(1, false)
		time.Sleep(10 * time.Second)
		if s := p.States()[id(1)]; !s.Up || !strings.Contains(s.Reason, "works again") {
			t.Errorf("repaired for 10 s: %+v", s)
		}
		if w.tales() != 2 || w.told[0].Up || !w.told[1].Up {
			t.Errorf("told %+v", w.told)
		}
	})
}

// TestAlternatingResults checks that alternating results do not make a backend flap, with rise 2
// and fall 3.
func TestAlternatingResults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.flips = true
		p := w.prober()
		defer p.Close()
		set(t, p, map[service.BackendID]Check{id(1): every2s(1)})
		time.Sleep(10 * time.Minute)
		if w.tales() != 0 || w.count(1) < 270 {
			t.Errorf("%d changes in %d probes", w.tales(), w.count(1))
		}
	})
}

func TestSetByDifference(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		p := w.prober()
		defer p.Close()
		w.breaks(1, true)
		w.breaks(2, true)
		checks := map[service.BackendID]Check{id(1): every2s(1), id(2): every2s(2)}
		set(t, p, checks)
		time.Sleep(10 * time.Second)
		before := p.States()

		// The same checks again: nothing changes, including the timing.
		set(t, p, maps.Clone(checks))
		if after := p.States(); after[id(1)] != before[id(1)] {
			t.Errorf("an unchanged check went from %+v to %+v", before[id(1)], after[id(1)])
		}

		// A changed check keeps the state; a removed one ends; a new one starts as up.
		slower := every2s(1)
		slower.Interval = 10 * time.Second
		set(t, p, map[service.BackendID]Check{id(1): slower, id(3): every2s(3)})
		states := p.States()
		if states[id(1)].Up || states[id(1)].Since != before[id(1)].Since {
			t.Errorf("a changed check went from %+v to %+v", before[id(1)], states[id(1)])
		}
		if _, there := states[id(2)]; there || !states[id(3)].Up {
			t.Errorf("states %+v", states)
		}
		one, two := w.count(1), w.count(2)
		time.Sleep(30 * time.Second)
		if n := w.count(1) - one; n < 2 || n > 4 {
			t.Errorf("%d probes in 30 s at an interval of 10 s", n)
		}
		if n := w.count(2) - two; n != 0 {
			t.Errorf("a removed check made %d probes", n)
		}

		// "none" means up, whatever the state was before.
		set(t, p, map[service.BackendID]Check{id(1): {Type: None}})
		if s := p.States()[id(1)]; !s.Up || s.Reason != "not checked" {
			t.Errorf("%+v", s)
		}
	})
}

// TestJitter checks that backends with the same interval are not all probed at the same instant,
// and do not become synchronous.
func TestJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		p := w.prober()
		checks := make(map[service.BackendID]Check)
		for n := range byte(50) {
			checks[id(n)] = every2s(n)
		}
		set(t, p, checks)
		time.Sleep(time.Minute)
		p.Close()
		instants := make(map[time.Time]bool)
		for _, times := range w.probes {
			for i, at := range times {
				instants[at] = true
				if i == 0 {
					continue
				}
				if gap := at.Sub(times[i-1]); gap < 1800*time.Millisecond || gap > 2000*time.Millisecond {
					t.Fatalf("%v between two probes", gap)
				}
			}
		}
		if len(instants) < 1000 {
			t.Errorf("probes of 50 backends in a minute fall on %d instants", len(instants))
		}
	})
}

// TestSlowProbe checks that a probe that takes longer than the interval delays only the next one.
func TestSlowProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		running, probes := 0, 0
		p := New(Config{Probe: func(ctx context.Context, _ Check) error {
			running, probes = running+1, probes+1
			if running != 1 {
				t.Error("two probes of one backend at a time")
			}
			sleepOrEnd(ctx, 5*time.Second)
			running--
			return nil
		}})
		set(t, p, map[service.BackendID]Check{id(1): every2s(1)})
		time.Sleep(time.Minute)
		p.Close() // during a probe
		if probes < 10 || probes > 13 {
			t.Errorf("%d probes of 5 s in a minute", probes)
		}
	})
}

func sleepOrEnd(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func TestSetRefuses(t *testing.T) {
	p := New(Config{})
	defer p.Close()
	good := every2s(1)
	good.Type = None
	set(t, p, map[service.BackendID]Check{id(1): good})
	for name, spoil := range map[string]func(*Check){
		"type":     func(c *Check) { c.Type = "smtp" },
		"target":   func(c *Check) { c.Target = netip.AddrPort{} },
		"interval": func(c *Check) { c.Interval = 0 },
		"rise":     func(c *Check) { c.Rise = 0 },
	} {
		bad := every2s(2)
		spoil(&bad)
		err := p.Set(map[service.BackendID]Check{id(2): bad})
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "10.0.0.2") {
			t.Errorf("%s: error %v", name, err)
		}
		if _, there := p.States()[id(1)]; !there {
			t.Fatalf("%s: the error changed the checks", name)
		}
	}
	p.Close()
	if p.Set(nil) == nil {
		t.Error("Set after Close gives no error")
	}
}

// elsewhere returns the ID of the n-th backend in another service.
func elsewhere(n byte) service.BackendID {
	other := id(n)
	other.Service.Ports = service.Ports{First: 443, Last: 443}
	return other
}

// TestSharedCheck checks that services that share a server and its check share the probes, and all
// get the results.
func TestSharedCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		p := w.prober()
		defer p.Close()
		set(t, p, map[service.BackendID]Check{id(1): every2s(1), elsewhere(1): every2s(1)})
		w.breaks(1, true)
		time.Sleep(20 * time.Second)
		if n := w.count(1); n > 13 {
			t.Errorf("%d probes in 20 s at an interval of 2 s", n)
		}
		states := p.States()
		if states[id(1)].Up || states[id(1)] != states[elsewhere(1)] || len(w.whom) != 2 || w.whom[0] == w.whom[1] {
			t.Errorf("states %+v, told %v", states, w.whom)
		}

		// A joining backend gets the known state; a leaving one does not end the check for the
		// other.
		third := elsewhere(1)
		third.Service.Ports = service.Ports{First: 8443, Last: 8443}
		set(t, p, map[service.BackendID]Check{third: every2s(1), elsewhere(1): every2s(1)})
		if s := p.States(); len(s) != 2 || s[third].Up || s[third] != s[elsewhere(1)] {
			t.Errorf("after a service joined: %+v", s)
		}
		set(t, p, map[service.BackendID]Check{third: every2s(1)})
		w.breaks(1, false)
		time.Sleep(10 * time.Second)
		if s := p.States(); !s[third].Up {
			t.Errorf("after the others left: %+v", s)
		}

		// Another check of the same server runs separately.
		slower := every2s(1)
		slower.Fall = 30
		set(t, p, map[service.BackendID]Check{id(1): slower, third: every2s(1)})
		w.breaks(1, true)
		time.Sleep(20 * time.Second)
		if s := p.States(); s[third].Up || !s[id(1)].Up {
			t.Errorf("two checks of one server: %+v", s)
		}
	})
}

// TestBounds checks the bounds: down within fall intervals and a timeout, up within rise intervals,
// wherever in the interval the change happens.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		p := w.prober()
		defer p.Close()
		check := every2s(1)
		check.FlapHold = 0
		set(t, p, map[service.BackendID]Check{id(1): check})
		time.Sleep(time.Minute)
		for i := range 200 {
			broken := i%2 == 0
			w.breaks(1, broken)
			at, bound := time.Now(), 3*2*time.Second+time.Second
			if !broken {
				bound = 2 * 2 * time.Second
			}
			time.Sleep(bound)
			s := p.States()[id(1)]
			if s.Up == broken || s.Since.Before(at) {
				t.Fatalf("after %v of being broken %v: %+v", bound, broken, s)
			}
			time.Sleep(time.Duration(i) * 17 * time.Millisecond)
		}
	})
}

// TestFlapping checks that a backend that fails in bursts is held down, with a reason, and is up
// again when it has succeeded for long enough.
func TestFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		p := w.prober()
		defer p.Close()
		check := every2s(1)
		check.FlapHold = time.Minute
		set(t, p, map[service.BackendID]Check{id(1): check})
		burst := func() {
			w.breaks(1, true)
			time.Sleep(7 * time.Second)
			w.breaks(1, false)
			time.Sleep(5 * time.Second)
		}
		for range 3 {
			burst()
			if s := p.States()[id(1)]; !s.Up {
				t.Fatalf("held after few bursts: %+v", s)
			}
		}
		burst()
		s := p.States()[id(1)]
		if s.Up || s.Failing || s.Last != "" || !strings.Contains(s.Reason, "flaps") {
			t.Errorf("after 4 bursts: %+v", s)
		}
		w.breaks(1, true)
		time.Sleep(3 * time.Second)
		if s := p.States()[id(1)]; s.Up || s.Reason != "broken" {
			t.Errorf("broken while held: %+v", s)
		}
		tales := w.tales()
		for range 50 {
			burst()
		}
		if n := w.tales() - tales; n > 20 { // 10 minutes: at most one change a minute, each way
			t.Errorf("%d changes in 10 minutes of bursts", n)
		}
		time.Sleep(time.Minute + 4*time.Second)
		if s := p.States()[id(1)]; !s.Up || !strings.Contains(s.Reason, "works again") {
			t.Errorf("good for a minute: %+v", s)
		}

		// Old flaps no longer count.
		time.Sleep(time.Hour)
		burst()
		if s := p.States()[id(1)]; !s.Up {
			t.Errorf("held after a good hour: %+v", s)
		}
	})
}
