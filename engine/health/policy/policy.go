// Package policy decides what the results of health checks and the orders of operators mean for a
// service's backends: which take new connections and in which portion of their weight, which have
// their connections ended, which state each is shown in, and which alarms are raised.
//
// It is a machine of values: Step and StepServices return the next State from the previous one and
// an Input. They read no clock, write no log and keep nothing. A State is immutable, so that a
// caller that fails to publish it drops it and still has the previous one. The first State is the
// step from nil.
//
// The decision is made for each service by itself (service.go, with protection.go, slowstart.go and
// backend_state.go). A change that concerns one service therefore costs the evaluation of that
// service, however many others are configured: see StepServices.
package policy

import (
	"net/netip"
	"slices"
	"time"

	"sluice/conf"
	"sluice/engine/health"
	"sluice/engine/override"
	"sluice/pipeline/service"
)

// Input is what a step reads besides the previous State. The maps are read during the step only,
// but for Overrides, which the State retains: it must not be written afterwards.
type Input struct {
	Config    *Index
	Checks    map[service.BackendID]health.State // of every backend that has a check
	Overrides override.Set
	Freeze    Freeze
	// Unreachable: why no packet can be sent to an address, for addresses of that kind
	Unreachable map[netip.Addr]string
	Direct      string // the text of the alarm AlarmDirect; "": it is not raised
	NotRun      string // the same of AlarmNotRun
	Detached    string // the same of AlarmDetached
	ToKernel    string // the same of AlarmToKernel
	Now         time.Time
}

// State is the result of a step: who takes new connections, the states that operators see, and the
// alarms. It is immutable. Its methods may be called from any goroutine.
type State struct {
	config    *Index
	overrides override.Set
	freeze    Freeze
	now       time.Time
	services  []*serviceState // in the order of the configuration
	alarms    []Alarm         // of the whole daemon
}

// Step evaluates all services. It returns the next state, and what has changed since prev, which
// may be nil.
func (s *State) Step(in Input) (*State, []Event) {
	next := s.begin(in)
	next.services = make([]*serviceState, len(in.Config.Services))
	for i := range next.services {
		next.services[i] = s.evaluate(next, in, i)
	}
	return next, next.events(s)
}

// StepServices is Step for an input in which only the checks and overrides of the named services
// differ from those of the step before. It also evaluates the services of which Due has come. The
// configuration and the orders to freeze must be the same as before. A service that is not
// configured is ignored.
func (s *State) StepServices(in Input, keys []service.Key) (*State, []Event) {
	next := s.begin(in)
	next.services = slices.Clone(s.services)
	var changed []int
	for i, svc := range s.services {
		if !svc.due.IsZero() && !svc.due.After(in.Now) {
			changed = append(changed, i)
		}
	}
	for _, key := range keys {
		if i, ok := in.Config.service[key]; ok {
			changed = append(changed, i)
		}
	}
	slices.Sort(changed)
	changed = slices.Compact(changed)
	for _, i := range changed {
		next.services[i] = s.evaluate(next, in, i)
	}
	return next, next.eventsOf(s, changed)
}

// begin returns the next state without its services.
func (s *State) begin(in Input) *State {
	next := &State{config: in.Config, overrides: in.Overrides, freeze: in.Freeze.only(in.Config), now: in.Now}
	for _, a := range []Alarm{
		{Kind: AlarmDirect, Text: in.Direct}, {Kind: AlarmNotRun, Text: in.NotRun},
		{Kind: AlarmDetached, Text: in.Detached}, {Kind: AlarmToKernel, Text: in.ToKernel},
	} {
		if a.Text != "" {
			next.alarms = append(next.alarms, a)
		}
	}
	if in.Freeze.All {
		next.alarms = append(next.alarms, Alarm{Kind: AlarmFrozen, Text: "the health of all services is frozen: checks change nothing until `sluice health thaw`"})
	}
	var before []Alarm
	if s != nil {
		before = s.alarms
	}
	date(next.alarms, before, in.Now)
	return next
}

// Due returns when a step must be made although nothing else happens, because a backend's portion
// of its weight grows. The zero time means never.
func (s *State) Due() (due time.Time) {
	for _, svc := range s.services {
		if !svc.due.IsZero() && (due.IsZero() || svc.due.Before(due)) {
			due = svc.due
		}
	}
	return due
}

// SameTables reports whether the packet path's tables for s are those for the other state, which
// may be nil, given the same configuration and overrides.
func (s *State) SameTables(other *State) bool {
	return other != nil && slices.EqualFunc(s.services, other.services, func(a, b *serviceState) bool {
		return a == b || a.sorry == b.sorry && slices.EqualFunc(a.backends, b.backends, func(a, b Backend) bool {
			return a.ID == b.ID && a.Availability == b.Availability
		})
	})
}

// ChangedServices returns the places of the services that were evaluated since the other state, of
// the same configuration, in ascending order. All others have equal decisions in both, but for
// connections that end because a drain's deadline has come: see Evicts.
func (s *State) ChangedServices(other *State) (places []int) {
	for i, svc := range s.services {
		if svc != other.services[i] {
			places = append(places, i)
		}
	}
	return places
}

// ExpiredServices returns the places of the services with a drain that reached its deadline since
// the other state, of the same configuration.
func (s *State) ExpiredServices(other *State) (places []int) {
	for id, o := range s.overrides {
		if at, ok := s.config.backend[id]; ok && o.Evicts(s.now) != o.Evicts(other.now) {
			places = append(places, at.service)
		}
	}
	return places
}

// Config returns the configuration that the state was made for.
func (s *State) Config() *Index { return s.config }

// Freeze returns the orders to freeze that are in force.
func (s *State) Freeze() Freeze {
	if s == nil {
		return Freeze{}
	}
	return s.freeze
}

// Frozen reports whether a service's health is frozen.
func (s *State) Frozen(key service.Key) bool { return s.freeze.Frozen(key) }

// Backend returns what was decided about a configured backend or sorry server.
func (s *State) Backend(id service.BackendID) (Backend, bool) {
	at, ok := s.config.backend[id]
	if !ok {
		return Backend{}, false
	}
	return s.services[at.service].backends[at.backend], true
}

// Down reports whether a configured backend takes no new connections because of its health, or is a
// sorry server that is not needed.
func (s *State) Down(id service.BackendID) bool {
	b, _ := s.Backend(id)
	return b.Down
}

// Evicts reports whether a backend's connections must end. It may be one that is not configured.
func (s *State) Evicts(id service.BackendID) bool {
	b, _ := s.Backend(id)
	return b.Evict || s.overrides[id].Evicts(s.now)
}

// Weight returns the effective weight of a configured backend.
func (s *State) Weight(id service.BackendID, configured int) int {
	return s.overrides.Weight(id, configured)
}

// Backends returns what was decided about the backends of the service at a place in the
// configuration, in its order; its sorry server is last. The caller must not write to the slice.
func (s *State) Backends(place int) []Backend { return s.services[place].backends }

// LastWeight returns the weight above 0 that was set for a backend at run time and applies when no
// drain does. It returns 0 if there is none.
func (s *State) LastWeight(id service.BackendID, configured int) int {
	return s.overrides[id].LastWeight(configured)
}

// Refreshed returns the state with the latest results of checks: see Backend.Refreshed.
func (s *State) Refreshed(latest map[service.BackendID]health.State) *State {
	next := *s
	next.services = make([]*serviceState, len(s.services))
	for i, svc := range s.services {
		fresh := *svc
		fresh.backends = slices.Clone(svc.backends)
		for j := range fresh.backends {
			b := &fresh.backends[j]
			if now, checked := latest[b.ID]; checked {
				*b = b.Refreshed(now)
			}
		}
		next.services[i] = &fresh
	}
	return &next
}

// SorryInUse reports whether the service's sorry server takes new connections.
func (s *State) SorryInUse(key service.Key) bool {
	i, ok := s.config.service[key]
	return ok && s.services[i].sorry
}

// Alarms returns the alarms of a service, or of the whole daemon for the zero Key, in the order of
// AlarmKinds.
func (s *State) Alarms(key service.Key) []Alarm {
	if key == (service.Key{}) {
		return s.alarms
	}
	if i, ok := s.config.service[key]; ok {
		return s.services[i].alarms
	}
	return nil
}

// Freeze is the orders of operators that check results must change nothing. It is a value: the map
// is never written.
type Freeze struct {
	All      bool // services that later configurations bring are included
	Services map[service.Key]bool
}

// Frozen reports whether a service's health is frozen.
func (f Freeze) Frozen(key service.Key) bool { return f.All || f.Services[key] }

// With returns the orders with that of one service changed.
func (f Freeze) With(key service.Key, frozen bool) Freeze {
	services := make(map[service.Key]bool, len(f.Services)+1)
	for k := range f.Services {
		services[k] = true
	}
	if frozen {
		services[key] = true
	} else {
		delete(services, key)
	}
	return Freeze{All: f.All, Services: services}
}

// only returns the orders without those for services that are not configured.
func (f Freeze) only(config *Index) Freeze {
	for key := range f.Services {
		if _, ok := config.service[key]; !ok {
			f = f.With(key, false)
		}
	}
	return f
}

// Index is a configuration with the places of its services and backends. It is immutable.
type Index struct {
	*conf.Config
	service map[service.Key]int
	backend map[service.BackendID]place
	name    map[string]int
}

// place is where a backend is in a configuration. The sorry server comes after the backends.
type place struct{ service, backend int }

// NewIndex returns the index of a configuration, which must not be written afterwards.
func NewIndex(cfg *conf.Config) *Index {
	x := &Index{
		Config:  cfg,
		service: make(map[service.Key]int, len(cfg.Services)),
		backend: make(map[service.BackendID]place),
		name:    make(map[string]int, len(cfg.Services)),
	}
	for i := range cfg.Services {
		s := &cfg.Services[i]
		x.service[s.Key], x.name[s.Name] = i, i
		for j, b := range s.Servers() {
			x.backend[s.Key.BackendID(b.Key)] = place{i, j}
		}
	}
	return x
}

// Service returns the service with the key, or nil.
func (x *Index) Service(key service.Key) *conf.Service {
	if i, ok := x.service[key]; ok {
		return &x.Services[i]
	}
	return nil
}

// ServiceByName returns the service with the name, or nil.
func (x *Index) ServiceByName(name string) *conf.Service {
	if i, ok := x.name[name]; ok {
		return &x.Services[i]
	}
	return nil
}

// Backend returns the backend with the ID, or nil. It does not find sorry servers.
func (x *Index) Backend(id service.BackendID) *conf.Backend {
	at, ok := x.backend[id]
	if !ok || at.backend == len(x.Services[at.service].Backends) {
		return nil
	}
	return &x.Services[at.service].Backends[at.backend]
}
