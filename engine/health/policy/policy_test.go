package policy_test

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sluice/conf"
	"sluice/engine/health"
	. "sluice/engine/health/policy"
	"sluice/engine/override"
	"sluice/pipeline/service"
)

// keyOf returns the key of a service.
func keyOf(s int) service.Key {
	return service.Key{Address: netip.AddrFrom4([4]byte{198, 51, 100, byte(s)}), Ports: service.Ports{First: 80, Last: 80}, Protocol: service.TCP}
}

// backendOf returns the ID of the n-th backend of a service, counted from 0.
func backendOf(s int, n byte) service.BackendID {
	return keyOf(s).BackendID(service.BackendKey{Address: netip.AddrFrom4([4]byte{10, 0, byte(s), n}), Port: 80})
}

// sorryOf returns the address of a service's sorry server.
func sorryOf(s int) service.BackendKey {
	return service.BackendKey{Address: netip.AddrFrom4([4]byte{10, 1, byte(s), 0}), Port: 80}
}

// website returns the s-th service, with so many backends of weight 1.
func website(s, backends int) conf.Service {
	svc := conf.Service{
		Name: fmt.Sprint("web", s), Key: keyOf(s), OnDown: conf.OnDownReset,
		Health: conf.Health{MinHealthy: 50, Interval: 2 * time.Second, Timeout: time.Second},
	}
	for n := range backends {
		svc.Backends = append(svc.Backends, conf.Backend{Key: backendOf(s, byte(n)).Backend, Weight: 1, Mode: service.NAT})
	}
	return svc
}

// simulation drives a State through a sequence of events, with a clock of its own.
type simulation struct {
	t     *testing.T
	in    Input
	state *State
	// Results of checks before they are in the input: by backend.
	checks map[service.BackendID]health.State
	events []Event // of the last step
}

// start returns a simulation at the time 1000 with all backends up.
func start(t *testing.T, services ...conf.Service) *simulation {
	m := &simulation{t: t, checks: make(map[service.BackendID]health.State)}
	m.in.Now = time.Unix(1000, 0)
	m.in.Overrides = override.Set{}
	m.configure(services...)
	m.step()
	return m
}

// configure makes these the configured services. Backends that are new are up.
func (m *simulation) configure(services ...conf.Service) {
	m.in.Config = NewIndex(&conf.Config{Services: services})
	for id := range m.in.Config.EachBackend() {
		if _, known := m.checks[id]; !known {
			m.checks[id] = health.State{Up: true, Since: m.in.Now, Reason: "not checked yet"}
		}
	}
	m.in.Checks = m.checks
}

func (m *simulation) step() {
	m.state, m.events = m.state.Step(m.in)
}

// turn puts a backend of the first service into a state: up, down, or failing.
func (m *simulation) turn(n byte, to string) {
	s := m.checks[id(n)]
	up := to != "down"
	if failing := to != "up"; failing && !s.Failing {
		s.Failed = m.in.Now
	}
	if up != s.Up {
		s.Since = m.in.Now
	}
	s.Up, s.Failing = up, to != "up"
	if s.Reason, s.Last = "works again", ""; s.Failing {
		s.Reason, s.Last = "refused", "refused"
	}
	m.checks[id(n)] = s
}

// lose takes the neighbour of an address away, or gives it back.
func (m *simulation) lose(addr netip.Addr, lost bool) {
	m.in.Unreachable = maps.Clone(m.in.Unreachable)
	if m.in.Unreachable == nil {
		m.in.Unreachable = make(map[netip.Addr]string)
	}
	delete(m.in.Unreachable, addr)
	if lost {
		m.in.Unreachable[addr] = "no neighbour"
	}
}

// set has an operator set an override of a backend of the first service.
func (m *simulation) set(n byte, o override.Override) { m.in.Overrides = m.in.Overrides.With(id(n), o) }

// states returns the first service's states: "up down/in use drain standby", with the portion of
// the weight in sixteenths as "up/1" and "evict" for backends of which the connections end.
func (m *simulation) states() string {
	var all []string
	svc := &m.in.Config.Services[0]
	for _, c := range svc.Servers() {
		b, ok := m.state.Backend(svc.Key.BackendID(c.Key))
		if !ok {
			m.t.Fatalf("backend %s is missing", c.Key)
		}
		text := b.State
		if b.Protected != "" {
			text += "/in use"
		}
		if b.SlowStart > 0 {
			text += fmt.Sprint("/", b.SlowStart)
		}
		if m.state.Evicts(b.ID) {
			text += "/evict"
		}
		if b.Since.After(m.in.Now) || b.Reason == "" {
			m.t.Errorf("%+v", b)
		}
		if c.Weight > 0 && m.state.Down(b.ID) != (b.State == Standby || b.State == Down && b.Protected == "") {
			m.t.Errorf("%s: down is %v", text, m.state.Down(b.ID))
		}
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

// log returns the events of the last step: "0 up>down, +no_backend, -no_backend".
func (m *simulation) log() string {
	var all []string
	for _, e := range m.events {
		switch e.Kind {
		case StateChanged:
			all = append(all, fmt.Sprintf("%d %s>%s", e.Backend.Address.As4()[3], e.From.State, e.To.State))
		case AlarmRaised:
			all = append(all, "+"+e.Alarm.Kind)
		case AlarmEnded:
			all = append(all, "-"+e.Alarm.Kind)
		}
	}
	return strings.Join(all, ", ")
}

// TestStories simulates sequences of events. Each step happens so many seconds after the one
// before: events, the states afterwards, and what the log has.
func TestStories(t *testing.T) {
	type step struct {
		after time.Duration
		// "0 down": a check; "0 drain", "0 drain 5s", "0 disable", "0 enable", "0 weight 5": an
		// operator; "freeze", "thaw", "freeze all", "thaw all"; "0 lost", "0 found", "9 lost": the
		// neighbour of a backend, or of the sorry server
		events string
		want   string
		log    string
	}
	plain := website(0, 3)
	sorry, slow, keep, fixed := website(0, 2), website(0, 2), website(0, 2), website(0, 2)
	sorry.Sorry = &conf.Backend{Key: sorryOf(0), Weight: 1, Mode: service.NAT}
	slow.SlowStart = 15 * time.Second
	keep.OnDown = conf.OnDownKeep
	fixed.Backends[1].Weight = 0
	for name, c := range map[string]struct {
		service conf.Service
		story   []step
	}{
		"down and up": {plain, []step{
			{0, "0 failing", "up up up", ""},
			{2, "0 down", "down/evict up up", "0 up>down"},
			{2, "", "down/evict up up", ""},
			{2, "0 up", "up up up", "0 down>up"}}},
		"connections go on": {keep, []step{{0, "0 down", "down up", "0 up>down"}}},
		"protection": {plain, []step{
			{0, "0 down", "down/evict up up", "0 up>down"},
			{60, "1 down", "down/evict down/in use up", "1 up>down, +pool_protected"},
			{60, "2 down", "down/evict down/in use down/in use", "2 up>down"},
			{60, "", "down/evict down/in use down/in use", ""},
			{2, "2 up", "down/evict down/in use up", "2 down>up"},
			{2, "1 up", "down/evict up up", "1 down>up, -pool_protected"}}},
		"all at once": {plain, []step{
			{0, "0 failing, 1 failing, 2 failing", "up up up", ""},
			{1, "0 down, 1 down, 2 down", "down/in use down/in use down/in use", "0 up>down, 1 up>down, 2 up>down, +pool_protected"},
			{1, "0 up, 1 up, 2 up", "up up up", "0 down>up, 1 down>up, 2 down>up, -pool_protected"}}},
		"sorry server": {sorry, []step{
			{0, "0 down", "down/evict up standby", "0 up>down"},
			{60, "1 down", "down/evict down/evict up", "1 up>down, 0 standby>up, +no_backend"},
			{60, "0 up", "up down/evict standby", "0 down>up, 0 up>standby, -no_backend"}}},
		"sorry server of a drained service": {sorry, []step{
			{0, "0 drain", "drain up standby", "0 up>drain"},
			{0, "1 disable", "drain drain/evict up", "1 up>drain, 0 standby>up"},
			{0, "1 enable", "drain up standby", "1 drain>up, 0 up>standby"}}},
		"freeze": {plain, []step{
			{0, "0 down", "down/evict up up", "0 up>down"},
			{1, "freeze", "down/evict up up", "+health_frozen"},
			{1, "0 up, 1 down", "down/evict up up", ""},
			{60, "1 up, 2 down", "down/evict up up", ""},
			{0, "2 drain", "down/evict up drain", "2 up>drain"},
			{0, "2 enable", "down/evict up up", "2 drain>up"},
			{1, "thaw", "up up down/evict", "0 down>up, 2 up>down, -health_frozen"}}},
		"freeze all": {plain, []step{
			{0, "freeze all", "up up up", "+health_frozen"},
			{1, "0 down", "up up up", ""},
			{1, "freeze, thaw", "up up up", ""},
			{1, "thaw all", "down/evict up up", "0 up>down, -health_frozen"}}},
		"orders": {plain, []step{
			{0, "0 drain 5s", "drain up up", "0 up>drain"},
			{4, "", "drain up up", ""},
			{1, "", "drain/evict up up", ""},
			{0, "0 disable", "drain/evict up up", ""},
			{0, "0 enable", "up up up", "0 drain>up"},
			{0, "0 weight 0", "drain up up", "0 up>drain"},
			{0, "0 weight 9", "up up up", "0 drain>up"}}},
		"a drained backend that is down": {plain, []step{
			{0, "0 drain", "drain up up", "0 up>drain"},
			{0, "0 down", "down/evict up up", "0 drain>down"},
			{0, "0 enable", "down/evict up up", ""},
			{0, "0 up", "up up up", "0 down>up"}}},
		"weight 0 in the file": {fixed, []step{{0, "", "up drain", ""}, {0, "1 weight 2", "up up", "1 drain>up"}}},
		"slow start": {slow, []step{
			{0, "0 down", "down/evict up", "0 up>down"},
			{60, "0 up", "up/1 up", "0 down>up"},
			{0, "0 failing", "up/1 up", ""},
			{1, "", "up/2 up", ""},
			{12, "", "up/14 up", ""},
			{1, "0 drain", "drain up", "0 up>drain"},
			{0, "0 enable", "up up", "0 drain>up"},
			{0, "0 down", "down/evict up", "0 up>down"},
			{0, "0 up", "up/1 up", "0 down>up"},
			{15, "", "up up", ""}}},
		"no slow start for a protected one": {slow, []step{
			{0, "0 down", "down/evict up", "0 up>down"},
			{1, "1 failing", "down/evict up", ""},
			{1, "1 down", "down/in use down/in use", "1 up>down, +pool_protected"},
			{1, "0 up, 1 up", "up up", "0 down>up, 1 down>up, -pool_protected"}}},
		"no neighbour": {plain, []step{
			{3, "0 lost", "down up up", "0 up>down, +backend_unreachable"},
			{2, "0 down", "down/evict up up", ""},
			{2, "0 up", "down up up", ""},
			{2, "0 drain", "down up up", ""},
			{2, "0 enable", "down up up", ""},
			{0, "0 found", "up up up", "0 down>up, -backend_unreachable"}}},
		"none can be sent to": {plain, []step{
			{3, "0 lost, 1 lost", "down down up", "0 up>down, 1 up>down, +backend_unreachable"},
			{3, "2 lost", "down down down", "2 up>down, +no_backend"},
			{1, "0 failing, 1 failing, 2 failing", "down down down", ""},
			{1, "0 down, 1 down, 2 down", "down down down", ""},
			{9, "0 found, 1 found, 2 found", "down/in use down/in use down/in use", "+pool_protected, -no_backend, -backend_unreachable"}}},
		"a sorry server without a neighbour": {sorry, []step{
			{3, "9 lost", "up up down", "0 standby>down, +backend_unreachable"},
			{60, "0 down, 1 lost", "down/evict down down", "0 up>down, 1 up>down, +no_backend"},
			{3, "9 found", "down/evict down up", "0 down>up"}}},
		"frozen, without a neighbour": {plain, []step{
			{1, "freeze", "up up up", "+health_frozen"},
			{3, "0 lost", "down up up", "0 up>down, +backend_unreachable"},
			{0, "0 found", "up up up", "0 down>up, -backend_unreachable"}}},
	} {
		m := start(t, c.service)
		if m.log() != "" {
			t.Errorf("%s: events at the start: %s", name, m.log())
		}
		for i, s := range c.story {
			m.in.Now = m.in.Now.Add(s.after * time.Second)
			for event := range strings.SplitSeq(s.events, ", ") {
				m.happen(event)
			}
			m.step()
			if got, log := m.states(), m.log(); got != s.want || log != s.log {
				t.Errorf("%s: step %d, %q: %s; log %s\nwant %s; log %s", name, i+1, s.events, got, log, s.want, s.log)
			}
			if m.step(); m.log() != "" || m.states() != s.want {
				t.Errorf("%s: step %d, %q: made again: %s; log %s", name, i+1, s.events, m.states(), m.log())
			}
		}
	}
}

// happen carries out an event of a story.
func (m *simulation) happen(event string) {
	web := keyOf(0)
	var n byte
	var what, more string
	switch words, _ := fmt.Sscan(event, &n, &what, &more); {
	case event == "":
	case event == "freeze", event == "thaw":
		m.in.Freeze = m.in.Freeze.With(web, event == "freeze")
	case event == "freeze all", event == "thaw all":
		m.in.Freeze = Freeze{All: event == "freeze all"}
	case words < 2:
		m.t.Fatalf("event %q", event)
	case what == "drain" || what == "disable":
		deadline, _ := time.ParseDuration(more)
		m.set(n, m.in.Overrides[id(n)].WithState(override.State(what), m.in.Now, deadline))
	case what == "lost" || what == "found":
		addr := id(n).Backend.Address
		if n == 9 {
			addr = sorryOf(0).Address
		}
		m.lose(addr, what == "lost")
	case what == "enable":
		m.set(n, m.in.Overrides[id(n)].Enabled())
	case what == "weight":
		var w int
		_, _ = fmt.Sscan(more, &w)
		m.set(n, override.OfWeight(w, m.in.Config.Backend(id(n)).Weight))
	default:
		m.turn(n, what)
	}
}

// TestSlowStartTimes checks that Due returns the exact times at which portions grow, for durations
// that WeightSteps-1 does and does not divide.
func TestSlowStartTimes(t *testing.T) {
	for _, duration := range []time.Duration{15 * time.Second, time.Second, 7, time.Hour + 1} {
		s := website(0, 2)
		s.SlowStart = duration
		m := start(t, s)
		if due := m.state.Due(); !due.IsZero() {
			t.Errorf("due %v although no backend starts", due)
		}
		m.turn(0, "down")
		m.step()
		m.turn(0, "up")
		m.step()
		began, last := m.in.Now, 0
		for due := m.state.Due(); !due.IsZero(); due = m.state.Due() {
			b, _ := m.state.Backend(id(0))
			if want := 1 + int(m.in.Now.Sub(began)*15/duration); b.SlowStart != want || want <= last {
				t.Fatalf("%v: %d/16 after %v, want %d", duration, b.SlowStart, m.in.Now.Sub(began), want)
			}
			last = b.SlowStart
			for _, m.in.Now = range []time.Time{due.Add(-1), due} {
				m.state, m.events = m.state.StepServices(m.in, nil)
			}
		}
		if b, _ := m.state.Backend(id(0)); b.SlowStart != 0 || m.in.Now.Sub(began) != duration {
			t.Errorf("%v: %d/16 after %v", duration, b.SlowStart, m.in.Now.Sub(began))
		}
	}
}

// TestReload checks what a new configuration keeps and what it changes.
func TestReload(t *testing.T) {
	slow := func(backends int) conf.Service {
		s := website(0, backends)
		s.SlowStart = time.Minute
		return s
	}
	m := start(t, slow(2), website(1, 1))
	m.turn(0, "down")
	m.step()
	since, _ := m.state.Backend(id(0))
	m.in.Freeze = m.in.Freeze.With(keyOf(1), true)
	m.step()
	m.in.Now = m.in.Now.Add(time.Minute)
	m.configure(website(2, 1), slow(3)) // in another order, and without web1
	m.state, m.events = m.state.Step(m.in)
	if got := m.log(); got != "-health_frozen" || m.events[0].Service != "web1" || m.events[0].After != time.Minute {
		t.Errorf("events %s: %+v", got, m.events)
	}
	if f := m.state.Freeze(); len(f.Services) != 0 {
		t.Errorf("frozen: %v", f)
	}
	for n, want := range []int{0, 0, 1} {
		if b, _ := m.state.Backend(id(byte(n))); b.SlowStart != want {
			t.Errorf("backend %d has %d/16", n, b.SlowStart)
		}
	}
	if b, _ := m.state.Backend(id(0)); b.State != Down || !b.Since.Equal(since.Since) {
		t.Errorf("%+v, was %+v", b, since)
	}
	if b, _ := m.state.Backend(backendOf(2, 0)); b.SlowStart != 0 || !b.Since.Equal(m.in.Now) {
		t.Errorf("of a new service: %+v", b)
	}
	if _, ok := m.state.Backend(backendOf(1, 0)); ok {
		t.Error("a backend that is gone")
	}
}

// TestUnchecked: a backend without a check is up, even next to others that fail.
func TestUnchecked(t *testing.T) {
	m := start(t, website(0, 2))
	delete(m.checks, id(0))
	m.turn(1, "down")
	m.step()
	if got := m.states(); got != "up down/evict" {
		t.Error(got)
	}
	if b, _ := m.state.Backend(id(0)); b.Reason != "not checked" || b.Checked {
		t.Errorf("%+v", b)
	}
}

// TestDaemonAlarms: the alarms of the whole daemon are raised and ended once.
func TestDaemonAlarms(t *testing.T) {
	m := start(t, website(0, 1))
	for _, c := range []struct{ direct, log, text string }{
		{"no device", "+checks_direct", "no device"}, {"no device", "", "no device"},
		{"no right", "", "no right"}, {"", "-checks_direct", ""},
	} {
		m.in.Direct = c.direct
		m.state, m.events = m.state.StepServices(m.in, nil)
		all, text := m.state.Alarms(service.Key{}), ""
		if len(all) > 0 {
			text = all[0].Text
		}
		if got := m.log(); got != c.log || text != c.text {
			t.Errorf("%q: log %s, alarms %v", c.direct, got, all)
		}
	}
}

// TestRefreshed: the last result and its reason may change while the state lasts.
func TestRefreshed(t *testing.T) {
	m := start(t, website(0, 3))
	m.turn(0, "down")
	m.step()
	b, _ := m.state.Backend(id(0))
	for _, c := range []struct {
		latest       health.State
		reason, last string
	}{
		{health.State{Reason: "flaps"}, "flaps", ""},
		{health.State{Reason: "timeout", Last: "timeout"}, "timeout", "timeout"},
		// the step that makes it up comes
		{health.State{Up: true, Reason: "works again"}, "refused", ""},
	} {
		if got := b.Refreshed(c.latest); got.Reason != c.reason || got.Check.Last != c.last || got.State != Down {
			t.Errorf("%+v: %+v", c.latest, got)
		}
	}
}
