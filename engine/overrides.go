package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"sluice/engine/api"
	"sluice/engine/override"
	"sluice/pipeline/service"
)

// SetWeight implements api.Control. The weight holds until the backend's weight changes in the
// file; it ends a drain and a disable.
func (e *Engine) SetWeight(ctx context.Context, service, backend string, weight int) (api.Backend, error) {
	if weight < 0 || weight > api.MaxWeight {
		return api.Backend{}, fmt.Errorf("weight %d must be from 0 to %d", weight, api.MaxWeight)
	}
	note := ""
	b, err := e.change(ctx, service, backend, func(o override.Override, configured int) override.Override {
		note = e.weightNote(service, backend, o.EffectiveWeight(configured), weight)
		return override.OfWeight(weight, configured)
	})
	b.Note = note
	return b, err
}

// weightNote returns a note if the scheduler ignores the weight, or "". The caller holds mu.
func (e *Engine) weightNote(serviceName, backendName string, before, weight int) string {
	s, b, err := e.find(serviceName, backendName)
	if err != nil || weight == 0 || !s.IgnoresWeights() {
		return ""
	}
	idle := before > 0 && before != weight
	for i := range s.Backends {
		other := &s.Backends[i]
		w := e.overrides.Weight(s.Key.BackendID(other.Key), other.Weight)
		idle = idle || other != b && w > 0 && w != weight
	}
	if !idle {
		return ""
	}
	return fmt.Sprintf("the scheduler of %s, %s, treats all weights above 0 alike: %s gets as many connections as with any other; 0 drains it",
		s.Name, s.Scheduler, b.Key)
}

// Override implements api.Changes.
func (e *Engine) Override(ctx context.Context, r api.OverrideRequest) (api.Backend, error) {
	if err := r.Check(); err != nil {
		return api.Backend{}, err
	}
	return e.change(ctx, r.Service, r.Backend, func(o override.Override, _ int) override.Override {
		switch r.State {
		case api.OverrideDrain:
			return o.WithState(override.Drain, time.Now(), seconds(r.DeadlineS))
		case api.OverrideDisable:
			return o.WithState(override.Disable, time.Now(), 0)
		}
		return o.Enabled()
	})
}

// change gives a backend another override, or changes nothing.
func (e *Engine) change(ctx context.Context, service, backend string, how func(o override.Override, configured int) override.Override) (api.Backend, error) {
	name, err := e.changeOne(ctx, service, backend, how)
	if err != nil {
		return api.Backend{}, err
	}
	// A worker that answers has taken the change up. A client that has gone does not undo it.
	b, err := e.backend(context.WithoutCancel(ctx), name)
	if u := (*api.Unresponsive)(nil); errors.As(err, &u) {
		u.Applied = true
	}
	return b, err
}

func (e *Engine) changeOne(ctx context.Context, serviceName, backendName string,
	how func(o override.Override, configured int) override.Override) (service.BackendID, error) {
	if err := e.begin(ctx); err != nil {
		return service.BackendID{}, err
	}
	defer e.changeMu.Unlock()
	e.mu.Lock()
	s, b, err := e.find(serviceName, backendName)
	if err != nil {
		e.mu.Unlock()
		return service.BackendID{}, err
	}
	name := s.Key.BackendID(b.Key)
	o := how(e.overrides[name], b.Weight)
	o.Since = time.Now()
	err = e.override(e.overrides.With(name, o), name.Service)
	e.mu.Unlock()
	if err == nil {
		e.saveOverrides()
	}
	return name, err
}

// override makes next the overrides that are in force, or changes nothing. Only the services of are
// concerned; none means all. The caller holds mu.
func (e *Engine) override(next override.Set, of ...service.Key) error {
	if e.closed {
		return errClosed
	}
	e.readResults(of...)
	u := e.present()
	u.overrides = next
	if len(of) > 0 && !e.health.behind {
		now := e.health.policy
		u.policy, u.events = now.StepServices(e.policyInput(&u, now.Freeze()), of)
	}
	if err := e.publish(&u); err != nil {
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

// listOverrides returns the overrides in the order of the configuration, those of backends that are
// not configured last. The caller holds mu.
func (e *Engine) listOverrides() []api.Override {
	out := []api.Override{}
	left := e.overrides.Clone()
	names := serviceNames(e.cfg)
	for name := range e.cfg.EachBackend() {
		if o, set := left[name]; set {
			out = append(out, describeOverride(o, names[name.Service], name, true))
			delete(left, name)
		}
	}
	for _, name := range slices.SortedFunc(maps.Keys(left), func(a, b service.BackendID) int {
		return cmp.Or(cmp.Compare(a.Service.String(), b.Service.String()), cmp.Compare(a.Backend.String(), b.Backend.String()))
	}) {
		of, configured := names[name.Service]
		if !configured {
			of = name.Service.String()
		}
		out = append(out, describeOverride(left[name], of, name, false))
	}
	return out
}

func describeOverride(o override.Override, of string, name service.BackendID, configured bool) api.Override {
	return api.Override{
		Service: of, Backend: name.Backend.String(), State: string(o.Kind()), Weight: o.Weight,
		Deadline: o.Deadline.Round(0), Since: o.Since.Round(0), Configured: configured,
	}
}

// ClearOverrides implements api.Changes.
func (e *Engine) ClearOverrides(ctx context.Context, service, backend string) ([]api.Override, error) {
	if err := e.begin(ctx); err != nil {
		return nil, err
	}
	cleared, err := e.clearOverrides(service, backend)
	if err == nil {
		e.saveOverrides()
	}
	e.changeMu.Unlock()
	if err != nil {
		return nil, err
	}
	return cleared, e.takenUp(ctx)
}

func (e *Engine) clearOverrides(serviceName, backendName string) ([]api.Override, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	next := make(override.Set)
	var cleared []service.Key
	names := serviceNames(e.cfg)
	for name, o := range e.overrides {
		of := serviceName == "" || serviceName == names[name.Service] || serviceName == name.Service.String()
		if !of || backendName != "" && backendName != name.Backend.String() {
			next[name] = o
		} else {
			cleared = append(cleared, name.Service)
		}
	}
	all := e.listOverrides()
	if err := e.override(next, cleared...); err != nil {
		return nil, err
	}
	kept := e.listOverrides()
	return slices.DeleteFunc(all, func(o api.Override) bool {
		return slices.ContainsFunc(kept, func(k api.Override) bool { return k.Service == o.Service && k.Backend == o.Backend })
	}), nil
}

// saveOverrides writes the overrides to the store. The caller holds changeMu.
func (e *Engine) saveOverrides() {
	data, err := e.overrides.Encode()
	if err != nil {
		e.log.Error("overrides can't be written", "error", err)
		return
	}
	e.store.Save(override.File, data)
}

// loadOverrides reads the overrides from the store. A file with an invalid entry is set aside: it
// never prevents a start.
func (e *Engine) loadOverrides() override.Set {
	data := e.store.Load(override.File)
	if data == nil {
		return make(override.Set)
	}
	all, err := override.Parse(data)
	if err != nil {
		e.store.SetAside(override.File, err)
	}
	return all
}
