package policy

import (
	"time"

	"sluice/conf"
	"sluice/engine/health"
	"sluice/engine/override"
	"sluice/pipeline/service"
)

// Availability is what the packet path's tables need to know of a backend.
type Availability struct {
	// Down: no candidate for new connections: down and not protected, or a sorry server that is not
	// needed
	Down      bool
	Evict     bool // with Down: existing connections end
	SlowStart int  // portion of its weight, in units of 1/WeightSteps; 0: all of it
}

// Backend is what was decided about a backend or a sorry server. It is immutable.
type Backend struct {
	ID service.BackendID
	Availability
	BackendState

	// Check: the result of its checks by which it was decided; the zero State without a check
	Check     health.State
	Checked   bool           // it has a check
	Protected string         // why it is a candidate although it is down; "": it is not
	Weight    int            // effective weight
	Override  override.State // what is set at run time
	// Unreachable: why no packet can be sent to it; "": packets can be sent. It is no candidate
	// then, and that by itself ends no connections: they go on when it comes back.
	Unreachable string

	frozen   bool      // Check is as it was when an operator froze the service's health
	starting time.Time // when its slow start began; zero: it has all of its weight
}

// serviceState is what was decided about a service.
type serviceState struct {
	backends   []Backend // in the order of the configuration; the sorry server last
	sorry      bool      // the sorry server takes new connections
	protection Protection
	alarms     []Alarm
	due        time.Time // when a portion grows; zero: never
}

// none is the state of a service that was not configured before.
var none = new(serviceState)

// evaluate decides about the i-th service of next. s is the previous state, nil at first.
func (s *State) evaluate(next *State, in Input, i int) *serviceState {
	svc := &in.Config.Services[i]
	before, known := s.serviceState(svc.Key)
	out := &serviceState{backends: make([]Backend, 0, len(svc.Backends)+1)}
	for j := range svc.Backends {
		b := &svc.Backends[j]
		id := svc.Key.BackendID(b.Key)
		o := in.Overrides[id]
		be := Backend{ID: id, Weight: o.EffectiveWeight(b.Weight), Override: o.Kind(), Unreachable: in.Unreachable[b.Key.Address]}
		be.check(in, before.backend(s, id), next.Frozen(svc.Key))
		out.backends = append(out.backends, be)
	}
	verdict := out.decide(svc, before.protection)
	out.startSlowly(svc, s, before, known, in.Now)
	if svc.Sorry != nil {
		unreachable := in.Unreachable[svc.Sorry.Key.Address]
		out.sorry = out.sorry && unreachable == ""
		out.backends = append(out.backends, Backend{
			ID: svc.Key.BackendID(svc.Sorry.Key), Weight: svc.Sorry.Weight, Availability: Availability{Down: !out.sorry},
			Unreachable: unreachable,
		})
	}
	for j := range out.backends {
		b := &out.backends[j]
		if j == len(svc.Backends) {
			b.BackendState = b.sorryState(out.sorry)
		} else {
			b.BackendState = b.backendState()
		}
		b.date(before.backend(s, b.ID), in.Now)
	}
	out.alarms = out.alarmsOf(svc, verdict, next.freeze)
	date(out.alarms, before.alarms, in.Now)
	return out
}

// serviceState returns the state of a service, and whether it was configured.
func (s *State) serviceState(key service.Key) (*serviceState, bool) {
	if s == nil {
		return none, false
	}
	if i, ok := s.config.service[key]; ok {
		return s.services[i], true
	}
	return none, false
}

// backend returns the state of a backend of the service, or nil. of is the State that the service
// belongs to.
func (svc *serviceState) backend(of *State, id service.BackendID) *Backend {
	if svc == none {
		return nil
	}
	at, ok := of.config.backend[id]
	if !ok {
		return nil
	}
	return &svc.backends[at.backend]
}

// check sets the result of the backend's checks. While its health is frozen that is the first one
// since, but what the last check returned is always the latest.
func (b *Backend) check(in Input, before *Backend, frozen bool) {
	b.Check, b.Checked = in.Checks[b.ID]
	b.frozen = frozen && b.Checked
	if b.frozen && before != nil && before.frozen {
		latest := b.Check
		b.Check = before.Check
		b.Check.Checked, b.Check.Took, b.Check.Last = latest.Checked, latest.Took, latest.Last
	}
}

// decide decides which backends are down, which of them are protected, and whether the sorry server
// is in use.
func (out *serviceState) decide(svc *conf.Service, before Protection) Verdict {
	var members []Member
	for i := range out.backends {
		b := &out.backends[i]
		if b.Weight == 0 {
			continue
		}
		state := b.Check
		if !b.Checked {
			state.Up = true
		}
		members = append(members, Member{ID: b.ID, State: state})
	}
	var v Verdict
	out.protection, v = before.Decide(members, Rule{
		MinHealthy: svc.Health.MinHealthy, Sorry: svc.Sorry != nil, Backends: len(svc.Backends), AtOnce: svc.Health.Interval + svc.Health.Timeout,
	})
	for i := range out.backends {
		b := &out.backends[i]
		switch {
		case !b.Checked || b.Check.Up:
		case v.Protected[b.ID]:
			b.Protected = v.Why
		// without weight it is no member: the service does not need it
		case v.Out[b.ID] || !v.AtOnce:
			b.Down, b.Evict = true, svc.OnDown == conf.OnDownReset
		}
	}
	out.leaveOut(&v)
	out.sorry = svc.Sorry != nil && (len(members) == 0 || v.NoneUp)
	return v
}

// leaveOut takes the backends that no packet can be sent to out of those that take new connections,
// protected ones included.
func (out *serviceState) leaveOut(v *Verdict) {
	left, up := 0, 0
	for i := range out.backends {
		b := &out.backends[i]
		if b.Unreachable != "" {
			b.Down, b.Protected = true, ""
			delete(v.Protected, b.ID)
			left += min(1, b.Weight)
		} else if b.Weight > 0 && (!b.Checked || b.Check.Up) {
			up++
		}
	}
	if left == 0 {
		return
	}
	v.NoneUp = up == 0
}
