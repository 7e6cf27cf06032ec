package policy_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"sluice/conf"
	"sluice/engine/health"
	. "sluice/engine/health/policy"
	"sluice/engine/override"
	"sluice/pipeline/service"
)

// TestRandomSteps runs random events through two machines: one that evaluates only the services
// that an event concerns, and its slow twin that evaluates all. Their states and events must be the
// same, and the obvious rules must hold for them.
func TestRandomSteps(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		m := start(t, randomServices(r)...)
		twin := m.state
		var raised []string
		for range 60 {
			m.in.Now = m.in.Now.Add(time.Duration(r.IntN(4000)) * time.Millisecond)
			changed, whole := m.happenRandomly(r)
			before := m.state
			if whole {
				m.state, m.events = before.Step(m.in)
			} else {
				m.state, m.events = before.StepServices(m.in, changed)
			}
			next, events := twin.Step(m.in)
			if !slices.EqualFunc(events, m.events, func(a, b Event) bool { return reflect.DeepEqual(a, b) }) {
				t.Fatalf("seed %d: events\n%+v, twin\n%+v", seed, m.events, events)
			}
			if !m.state.SameTables(next) || !m.state.Due().Equal(next.Due()) {
				t.Fatalf("seed %d: other tables than the twin", seed)
			}
			for id := range m.in.Config.EachBackend() {
				got, _ := m.state.Backend(id)
				want, _ := next.Backend(id)
				if !reflect.DeepEqual(got, want) {
					t.Fatalf("seed %d: %+v, twin %+v", seed, got, want)
				}
			}
			twin = next
			m.obey(t, seed)
			m.followEvents(t, seed, before)
			raised = m.followAlarms(t, seed, raised)
		}
	}
}

func randomServices(r *rand.Rand) (all []conf.Service) {
	for i := range 3 {
		s := website(i, 1+r.IntN(4))
		s.Health.MinHealthy = []int{0, 50, 100}[r.IntN(3)]
		s.SlowStart = time.Duration(r.IntN(3)) * 7 * time.Second
		if r.IntN(2) == 0 {
			s.Sorry = &conf.Backend{Key: sorryOf(i), Weight: 1, Mode: service.NAT}
		}
		all = append(all, s)
	}
	return all
}

// happenRandomly changes the input. It returns the services that the change concerns, or that it
// concerns all.
func (m *simulation) happenRandomly(r *rand.Rand) (changed []service.Key, whole bool) {
	svc := &m.in.Config.Services[r.IntN(len(m.in.Config.Services))]
	id := svc.Key.BackendID(svc.Backends[r.IntN(len(svc.Backends))].Key)
	switch what := r.IntN(20); {
	case what == 0:
		m.in.Freeze = Freeze{All: r.IntN(4) == 0}.With(svc.Key, r.IntN(2) == 0)
		return nil, true
	case what == 1:
		m.configure(randomServices(r)...)
		m.in.Overrides, _ = m.in.Overrides.Yield(m.in.Config.Config)
		return nil, true
	case what == 2:
		addr := id.Backend.Address
		if svc.Sorry != nil && r.IntN(3) == 0 {
			addr = svc.Sorry.Key.Address
		}
		m.lose(addr, r.IntN(2) == 0)
		return nil, true
	case what < 6:
		o := m.in.Overrides[id]
		switch r.IntN(4) {
		case 0:
			o = o.WithState(override.Drain, m.in.Now, time.Duration(r.IntN(5))*time.Second)
		case 1:
			o = o.WithState(override.Disable, m.in.Now, 0)
		case 2:
			o = o.Enabled()
		case 3:
			o = override.OfWeight(r.IntN(3), 1)
		}
		m.in.Overrides = m.in.Overrides.With(id, o)
	default:
		s := health.State{Up: r.IntN(2) == 0, Failing: r.IntN(2) == 0, Since: m.checks[id].Since, Reason: fmt.Sprint("reason ", r.IntN(3))}
		if s.Up != m.checks[id].Up {
			s.Since = m.in.Now
		}
		if s.Failing {
			s.Failed, s.Last = m.in.Now, "refused"
		}
		m.checks[id] = s
	}
	return []service.Key{svc.Key}, false
}

// obey checks the rules that hold in every state.
func (m *simulation) obey(t *testing.T, seed uint64) {
	t.Helper()
	for i := range m.in.Config.Services {
		s := &m.in.Config.Services[i]
		members, candidates, up := 0, 0, 0
		for _, c := range s.Backends {
			id := s.Key.BackendID(c.Key)
			b, _ := m.state.Backend(id)
			if b.Weight != m.in.Overrides.Weight(id, c.Weight) {
				t.Fatalf("seed %d: weight of %+v", seed, b)
			}
			if b.SlowStart < 0 || b.SlowStart >= WeightSteps || b.SlowStart > 0 && (b.Down || b.Weight == 0) {
				t.Fatalf("seed %d: slow start of %+v", seed, b)
			}
			lost := b.Unreachable != ""
			if lost != (m.in.Unreachable[c.Key.Address] != "") || lost && (!b.Down || b.Protected != "") {
				t.Fatalf("seed %d: %+v", seed, b)
			}
			if (b.State == Drain) != (b.Weight == 0 && b.Check.Up && !lost) || (b.State == Down) == (b.Check.Up && !lost) {
				t.Fatalf("seed %d: state of %+v", seed, b)
			}
			if b.Down && !lost && (b.Check.Up || b.Protected != "") || b.Evict && b.Check.Up || !lost && b.Evict != b.Down {
				t.Fatalf("seed %d: %+v", seed, b)
			}
			if b.Weight > 0 {
				members++
				if !b.Down || lost {
					candidates++
				}
				if b.Check.Up && !lost {
					up++
				}
			}
		}
		sorry := m.state.SorryInUse(s.Key)
		if sorry != (s.Sorry != nil && up == 0 && m.in.Unreachable[s.Sorry.Key.Address] == "") {
			t.Fatalf("seed %d: %s with %d up, sorry server in use: %v", seed, s.Name, up, sorry)
		}
		if 100*candidates < s.Health.MinHealthy*members && (s.Sorry == nil || up > 0) {
			t.Fatalf("seed %d: %s has %d of %d candidates", seed, s.Name, candidates, members)
		}
	}
}

// followEvents checks that each change of a state is one event, and nothing else is.
func (m *simulation) followEvents(t *testing.T, seed uint64, before *State) {
	t.Helper()
	var want, got []string
	for i := range m.in.Config.Services {
		s := &m.in.Config.Services[i]
		for _, c := range s.Servers() {
			id := s.Key.BackendID(c.Key)
			was, known := before.Backend(id)
			if b, _ := m.state.Backend(id); known && was.State != b.State {
				want = append(want, fmt.Sprint(s.Name, id.Backend, was.State, b.State))
			}
		}
	}
	for _, e := range m.events {
		if e.Kind == StateChanged {
			got = append(got, fmt.Sprint(e.Service, e.Backend, e.From.State, e.To.State))
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("seed %d: events %q, want %q", seed, got, want)
	}
}

// followAlarms checks that the alarms that events raised and did not end are those of the state. It
// returns them.
func (m *simulation) followAlarms(t *testing.T, seed uint64, raised []string) []string {
	t.Helper()
	for _, e := range m.events {
		name := e.Service + " " + e.Alarm.Kind
		at := slices.Index(raised, name)
		switch {
		case e.Kind == AlarmRaised && at < 0:
			raised = append(raised, name)
		case e.Kind == AlarmEnded && at >= 0:
			raised = slices.Delete(raised, at, at+1)
		case e.Kind != StateChanged:
			t.Fatalf("seed %d: %s raised or ended twice", seed, name)
		}
	}
	var want []string
	for _, a := range m.state.Alarms(service.Key{}) {
		want = append(want, " "+a.Kind)
	}
	for i := range m.in.Config.Services {
		for _, a := range m.state.Alarms(m.in.Config.Services[i].Key) {
			want = append(want, m.in.Config.Services[i].Name+" "+a.Kind)
		}
	}
	slices.Sort(raised)
	slices.Sort(want)
	if !slices.Equal(raised, want) {
		t.Fatalf("seed %d: raised %q, the state has %q", seed, raised, want)
	}
	return raised
}
