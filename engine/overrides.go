package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"sluice/conf"
	"sluice/engine/api"
	"sluice/pipeline/service"
)

// override is what an operator set about a backend at run time: a value, never changed.
type override struct {
	state      string // api.OverrideDrain, api.OverrideDisable or "": neither
	weight     *int   // nil: the file's. It yields to a new one in the file
	fileWeight int    // what the file said when weight was set
	deadline   time.Time
	since      time.Time
}

// says whether anything is left of it.
func (o override) empty() bool { return o.state == "" && o.weight == nil }

// over is the weight that holds where the file says so much.
func (o override) over(configured int) int {
	switch {
	case o.state != "":
		return 0
	case o.weight != nil && o.fileWeight == configured:
		return *o.weight
	}
	return configured
}

// evicts says whether the backend's connections are to end.
func (o override) evicts(now time.Time) bool {
	return o.state == api.OverrideDisable ||
		o.state == api.OverrideDrain && !o.deadline.IsZero() && !now.Before(o.deadline)
}

// name is the state as the API has it.
func (o override) name() string {
	if o.state == "" && o.weight != nil {
		return api.OverrideWeight
	}
	return o.state
}

// overrides are all of them, those of backends that are not configured too: what leaves the file by
// mistake comes back as it was.
type overrides map[service.BackendID]override

// weights and evicted are what the tables need to know. A weight that the file has too is left out.
func (all overrides) weights(cfg *conf.Config) map[service.BackendID]int {
	out := make(map[service.BackendID]int, len(all))
	each(cfg, func(name service.BackendID, b *conf.Backend) {
		if w := all[name].over(b.Weight); w != b.Weight {
			out[name] = w
		}
	})
	return out
}

func (all overrides) evicted(now time.Time) map[service.BackendID]bool {
	out := make(map[service.BackendID]bool)
	for name, o := range all {
		if o.evicts(now) {
			out[name] = true
		}
	}
	return out
}

// next is the first deadline after now; zero: none.
func (all overrides) next(now time.Time) (first time.Time) {
	for _, o := range all {
		if o.deadline.After(now) && (first.IsZero() || o.deadline.Before(first)) {
			first = o.deadline
		}
	}
	return first
}

// yield forgets the weights that yield to new ones in the file, and says which.
func (all overrides) yield(cfg *conf.Config) (yielded []string) {
	for i := range cfg.Services {
		s := &cfg.Services[i]
		for j := range s.Backends {
			b := &s.Backends[j]
			name := s.Key.BackendID(b.Key)
			o, set := all[name]
			if !set || o.weight == nil || o.fileWeight == b.Weight {
				continue
			}
			yielded = append(yielded, fmt.Sprintf("service %s: backend %s: the weight %d set at run time yields to the file's", s.Name, b.Key, *o.weight))
			o.weight = nil
			all.put(name, o)
		}
	}
	return yielded
}

func (all overrides) put(name service.BackendID, o override) {
	if o.empty() {
		delete(all, name)
	} else {
		all[name] = o
	}
}

// each visits every configured backend in order.
func each(cfg *conf.Config, visit func(name service.BackendID, b *conf.Backend)) {
	for i := range cfg.Services {
		s := &cfg.Services[i]
		for j := range s.Backends {
			visit(s.Key.BackendID(s.Backends[j].Key), &s.Backends[j])
		}
	}
}

// weightOf is the weight that the backend has now. The caller holds mu.
func (e *Engine) weightOf(name service.BackendID, configured int) int {
	return e.overrides[name].over(configured)
}

// keepLast has mh remember the weights set at run time, so that a drain moves no client of the
// others. The caller holds mu.
func (e *Engine) keepLast() {
	each(e.cfg, func(name service.BackendID, b *conf.Backend) {
		if o := e.overrides[name]; o.weight != nil && *o.weight > 0 && o.fileWeight == b.Weight {
			e.ids.backend[e.ids.backends[backendID{name, b.Mode}]].last = *o.weight
		}
	})
}

// SetWeight implements api.Control. The weight holds until the backend's weight changes in the
// file; it ends a drain and a disable.
func (e *Engine) SetWeight(ctx context.Context, service, backend string, weight int) (api.Backend, error) {
	if weight < 0 || weight > api.MaxWeight {
		return api.Backend{}, fmt.Errorf("weight %d is not 0 to %d", weight, api.MaxWeight)
	}
	note := ""
	b, err := e.change(ctx, service, backend, func(o override, configured int) override {
		note = e.weightNote(service, backend, o.over(configured), weight)
		if weight == configured {
			return override{}
		}
		return override{weight: &weight, fileWeight: configured}
	})
	b.Note = note
	return b, err
}

// weightNote says that a weight is not what it seems to be, because the scheduler looks at none;
// "": it is. The caller holds mu.
func (e *Engine) weightNote(serviceName, backendName string, before, weight int) string {
	s, b, err := e.find(serviceName, backendName)
	if err != nil || weight == 0 || !s.IgnoresWeights() {
		return ""
	}
	idle := before > 0 && before != weight
	for i := range s.Backends {
		other := &s.Backends[i]
		w := e.weightOf(s.Key.BackendID(other.Key), other.Weight)
		idle = idle || other != b && w > 0 && w != weight
	}
	if !idle {
		return ""
	}
	return fmt.Sprintf("the scheduler of %s, %s, takes all weights above 0 for the same: %s gets as many connections as with any other; 0 drains it",
		s.Name, s.Scheduler, b.Key)
}

// Override implements api.Changes.
func (e *Engine) Override(ctx context.Context, r api.OverrideRequest) (api.Backend, error) {
	if err := r.Check(); err != nil {
		return api.Backend{}, err
	}
	return e.change(ctx, r.Service, r.Backend, func(o override, _ int) override {
		o.state, o.deadline = r.State, time.Time{}
		switch {
		case r.State == api.OverrideEnable:
			o.state = ""
			if o.weight != nil && *o.weight == 0 {
				o.weight = nil
			}
		case r.DeadlineS > 0:
			o.deadline = time.Now().Add(time.Duration(r.DeadlineS * float64(time.Second)))
		}
		return o
	})
}

// change gives a backend another override, or changes nothing.
func (e *Engine) change(ctx context.Context, service, backend string, how func(o override, configured int) override) (api.Backend, error) {
	name, err := e.changeOne(service, backend, how)
	if err != nil {
		return api.Backend{}, err
	}
	return e.backend(ctx, name)
}

func (e *Engine) changeOne(serviceName, backendName string, how func(o override, configured int) override) (service.BackendID, error) {
	e.changing.Lock()
	defer e.changing.Unlock()
	e.mu.Lock()
	s, b, err := e.find(serviceName, backendName)
	if err != nil {
		e.mu.Unlock()
		return service.BackendID{}, err
	}
	name := s.Key.BackendID(b.Key)
	next := maps.Clone(e.overrides)
	o := how(next[name], b.Weight)
	o.since = time.Now()
	next.put(name, o)
	err = e.override(next)
	e.mu.Unlock()
	if err == nil {
		e.saveOverrides()
	}
	return name, err
}

// override makes next the overrides that hold, or changes nothing. The caller holds mu.
func (e *Engine) override(next overrides) error {
	if e.closed {
		return errClosed
	}
	before := e.overrides
	e.overrides = next
	e.keepLast()
	if err := e.publish(e.cfg); err != nil {
		e.overrides = before
		e.keepLast()
		return err
	}
	e.wake()
	return nil
}

// Overrides implements api.Changes.
func (e *Engine) Overrides(context.Context) ([]api.Override, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.listOverrides(), nil
}

// listOverrides lists them in the order of the configuration, those of what is not configured last.
// The caller holds mu.
func (e *Engine) listOverrides() []api.Override {
	out := []api.Override{}
	left := maps.Clone(e.overrides)
	names := serviceNames(e.cfg)
	each(e.cfg, func(name service.BackendID, _ *conf.Backend) {
		if o, set := left[name]; set {
			out = append(out, o.describe(names[name.Service], name, true))
			delete(left, name)
		}
	})
	for _, name := range slices.SortedFunc(maps.Keys(left), func(a, b service.BackendID) int {
		return cmp.Or(cmp.Compare(a.Service.String(), b.Service.String()), cmp.Compare(a.Backend.String(), b.Backend.String()))
	}) {
		of, configured := names[name.Service]
		if !configured {
			of = name.Service.String()
		}
		out = append(out, left[name].describe(of, name, false))
	}
	return out
}

func (o override) describe(of string, name service.BackendID, configured bool) api.Override {
	return api.Override{
		Service: of, Backend: name.Backend.String(), State: o.name(), Weight: o.weight,
		Deadline: o.deadline.Round(0), Since: o.since.Round(0), Configured: configured,
	}
}

// ClearOverrides implements api.Changes.
func (e *Engine) ClearOverrides(_ context.Context, service, backend string) ([]api.Override, error) {
	e.changing.Lock()
	defer e.changing.Unlock()
	cleared, err := e.clearOverrides(service, backend)
	if err == nil {
		e.saveOverrides()
	}
	return cleared, err
}

func (e *Engine) clearOverrides(service, backend string) ([]api.Override, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	next := make(overrides)
	names := serviceNames(e.cfg)
	for name, o := range e.overrides {
		of := service == "" || service == names[name.Service] || service == name.Service.String()
		if !of || backend != "" && backend != name.Backend.String() {
			next[name] = o
		}
	}
	all := e.listOverrides()
	if err := e.override(next); err != nil {
		return nil, err
	}
	kept := e.listOverrides()
	return slices.DeleteFunc(all, func(o api.Override) bool {
		return slices.ContainsFunc(kept, func(k api.Override) bool { return k.Service == o.Service && k.Backend == o.Backend })
	}), nil
}

// overridesFile is the name of the overrides in the store, overridesVersion what this program
// writes.
const (
	overridesFile    = "overrides.json"
	overridesVersion = 1
)

type storedOverrides struct {
	Version   int              `json:"version"`
	Overrides []storedOverride `json:"overrides"`
}

type storedOverride struct {
	Protocol   string    `json:"protocol"`
	Address    string    `json:"address"`
	Ports      string    `json:"ports"`
	Backend    string    `json:"backend"`
	State      string    `json:"state,omitempty"`
	Weight     *int      `json:"weight,omitempty"`
	FileWeight int       `json:"file_weight,omitempty"`
	Deadline   time.Time `json:"deadline,omitzero"`
	Since      time.Time `json:"since"`
}

// saveOverrides writes them to the store. The caller holds changing.
func (e *Engine) saveOverrides() {
	stored := storedOverrides{Version: overridesVersion, Overrides: []storedOverride{}}
	for name, o := range e.overrides {
		stored.Overrides = append(stored.Overrides, storedOverride{
			Protocol: name.Service.Protocol.String(), Address: name.Service.Address.String(), Ports: name.Service.Ports.String(),
			Backend: name.Backend.String(), State: o.state, Weight: o.weight, FileWeight: o.fileWeight, Deadline: o.deadline, Since: o.since,
		})
	}
	slices.SortFunc(stored.Overrides, func(a, b storedOverride) int {
		return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.Ports, b.Ports), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Backend, b.Backend))
	})
	data, err := json.MarshalIndent(stored, "", "  ")
	if err != nil {
		e.log.Error("overrides can't be written", "error", err)
		return
	}
	e.store.save(overridesFile, append(data, '\n'))
}

// loadOverrides reads them from the store. What makes no sense there is set aside: it never stops a
// start.
func (e *Engine) loadOverrides() overrides {
	data := e.store.load(overridesFile)
	if data == nil {
		return make(overrides)
	}
	all, err := parseOverrides(data)
	if err != nil {
		e.store.setAside(overridesFile, err)
	}
	return all
}

// parseOverrides gives what makes sense, and says what doesn't.
func parseOverrides(data []byte) (overrides, error) {
	all := make(overrides)
	var stored storedOverrides
	if err := json.Unmarshal(data, &stored); err != nil {
		return all, err
	}
	if stored.Version != overridesVersion {
		return all, fmt.Errorf("it has version %d; this program knows %d", stored.Version, overridesVersion)
	}
	var errs []error
	for _, s := range stored.Overrides {
		name, o, err := s.parse()
		if err != nil {
			errs = append(errs, fmt.Errorf("backend %s of %s %s:%s: %w", s.Backend, s.Protocol, s.Address, s.Ports, err))
			continue
		}
		all.put(name, o)
	}
	return all, errors.Join(errs...)
}

func (s storedOverride) parse() (name service.BackendID, o override, err error) {
	protocol, err1 := service.ParseProtocol(s.Protocol)
	address, err2 := netip.ParseAddr(s.Address)
	ports, err3 := service.ParsePorts(s.Ports)
	backend, err4 := netip.ParseAddrPort(s.Backend)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return name, o, err
	}
	switch s.State {
	case "", api.OverrideDrain, api.OverrideDisable:
	default:
		return name, o, fmt.Errorf("state %q is not one of %s, %s", s.State, api.OverrideDrain, api.OverrideDisable)
	}
	if s.Weight != nil && (*s.Weight < 0 || *s.Weight > api.MaxWeight) {
		return name, o, fmt.Errorf("weight %d is not 0 to %d", *s.Weight, api.MaxWeight)
	}
	name = service.Key{Address: address, Ports: ports, Protocol: protocol}.BackendID(
		service.BackendKey{Address: backend.Addr(), Port: backend.Port()})
	return name, override{s.State, s.Weight, s.FileWeight, s.Deadline, s.Since}, nil
}
