// Package plan computes what a configuration would change, without changing anything: the services
// and backends that would come, change or go, the connections that would lose their backend, and
// the portion of clients that would move to another backend. It also decides whether a reload must
// refuse a file that is valid but looks damaged. Everything here is a function of its arguments.
package plan

import (
	"context"
	"strings"

	"sluice/conf"
	"sluice/engine/api"
	"sluice/engine/override"
	"sluice/pipeline/service"
)

// Input is what a plan is computed from. It is only read.
type Input struct {
	Running, Next *conf.Config
	LastRefused   bool // the last file that the daemon read was refused
	Overrides     override.Set
	Down          func(service.BackendID) bool // reports whether failed checks exclude a backend
	LastWeights   map[service.BackendID]int    // the last weight above 0 of each backend, for mh
	Connections   map[service.BackendID]uint64 // in the connection table
}

// Compute returns the plan for replacing in.Running by in.Next, or an error soon after ctx ends.
// The caller sets File and Warnings.
func Compute(ctx context.Context, in *Input) (api.Plan, error) {
	out := api.Plan{Changes: []string{}, Services: []api.ServicePlan{}}
	for _, c := range conf.Diff(in.Running, in.Next) {
		if c.Restart {
			out.Restart = append(out.Restart, c.Text)
		} else {
			out.Changes = append(out.Changes, c.Text)
		}
	}
	if err := Guard(in.Running, in.Next, in.LastRefused); err != nil {
		for line := range strings.Lines(err.Error()) {
			out.Refused = append(out.Refused, strings.TrimSpace(line))
		}
	}
	return out, in.services(ctx, &out)
}

// services adds the services that would be added, changed or removed.
func (in *Input) services(ctx context.Context, out *api.Plan) error {
	before := make(map[service.Key]*conf.Service, len(in.Running.Services))
	for i := range in.Running.Services {
		before[in.Running.Services[i].Key] = &in.Running.Services[i]
	}
	changed := in.changedServices()
	sample := newSampler(in.Running, in.Next)
	for i := range in.Next.Services {
		if err := ctx.Err(); err != nil {
			return err
		}
		next := &in.Next.Services[i]
		running := before[next.Key]
		delete(before, next.Key)
		p := in.service(running, next)
		out.Connections += p.Connections
		out.Affected += p.Affected
		if running != nil && !changed[next.Key] && len(p.Backends) == 0 && in.Running.Engine.HashKey == in.Next.Engine.HashKey {
			continue
		}
		if running != nil {
			var err error
			if p.ClientsMoved, err = sample.moved(running, next, in.candidates(running), in.candidates(next)); err != nil {
				return err
			}
		}
		out.Services = append(out.Services, p)
	}
	for i := range in.Running.Services {
		if s := &in.Running.Services[i]; before[s.Key] != nil {
			p := in.service(s, nil)
			out.Connections += p.Connections
			out.Affected += p.Affected
			out.Services = append(out.Services, p)
		}
	}
	return nil
}

// changedServices returns the services of in.Next that are new or have changed settings. Changes of
// their backends don't count.
func (in *Input) changedServices() map[service.Key]bool {
	changed := make(map[service.Key]bool)
	before := make(map[service.Key]conf.Service, len(in.Running.Services))
	for _, s := range in.Running.Services {
		s.Backends = nil
		before[s.Key] = s
	}
	for _, s := range in.Next.Services {
		s.Backends = nil
		running, found := before[s.Key]
		changed[s.Key] = !found || len(conf.Diff(&conf.Config{Services: []conf.Service{running}}, &conf.Config{Services: []conf.Service{s}})) > 0
	}
	return changed
}

// service returns the plan of one service. One of running and next may be nil: the service is added
// or removed.
func (in *Input) service(running, next *conf.Service) api.ServicePlan {
	named, does := next, api.PlanChange
	switch {
	case running == nil:
		does = api.PlanAdd
		running = &conf.Service{}
	case next == nil:
		named, does = running, api.PlanRemove
		next = &conf.Service{}
	}
	p := api.ServicePlan{Name: named.Name, Key: named.Key.String(), Does: does, Backends: []api.BackendPlan{}}
	before := make(map[service.BackendKey]*conf.Backend, len(running.Backends))
	for i := range running.Backends {
		b := &running.Backends[i]
		before[b.Key] = b
		p.Connections += in.Connections[named.Key.BackendID(b.Key)]
	}
	for i := range next.Backends {
		b := &next.Backends[i]
		if line := in.backend(named.Key, before[b.Key], b); line.Does != api.PlanSame {
			p.Backends = append(p.Backends, line)
		}
		delete(before, b.Key)
	}
	for i := range running.Backends {
		if b := &running.Backends[i]; before[b.Key] != nil {
			line := in.backend(named.Key, b, nil)
			if does == api.PlanRemove || next.OnRemove == conf.OnRemoveReset {
				line.Affected = line.Connections
			}
			p.Affected += line.Affected
			p.Backends = append(p.Backends, line)
		}
	}
	return p
}

// backend returns the plan of one backend. One of running and next may be nil.
func (in *Input) backend(of service.Key, running, next *conf.Backend) api.BackendPlan {
	named, does := next, api.PlanAdd
	switch {
	case next == nil:
		named, does = running, api.PlanRemove
	case running != nil && (running.Weight != next.Weight || running.Mode != next.Mode):
		does = api.PlanChange
	case running != nil:
		does = api.PlanSame
	}
	id := of.BackendID(named.Key)
	o := in.Overrides[id]
	p := api.BackendPlan{Backend: named.Key.String(), Does: does, Connections: in.Connections[id]}
	if running != nil {
		p.Weight = o.EffectiveWeight(running.Weight)
	}
	if next != nil {
		p.NewWeight = o.EffectiveWeight(next.Weight)
		if o.Yields(next.Weight) {
			o = o.WithoutWeight()
		}
		p.Override = string(o.Kind())
	}
	return p
}
