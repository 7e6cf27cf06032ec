package engine

import (
	"context"
	"net/netip"
	"strings"

	"sluice/conf"
	"sluice/engine/api"
	"sluice/engine/override"
	"sluice/engine/tables"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/sched"
	"sluice/pipeline/service"
)

// Plan implements api.Changes.
func (e *Engine) Plan(_ context.Context, f api.File) (api.Plan, error) {
	next, warnings, err := e.read(f)
	if err != nil {
		return api.Plan{}, err
	}
	d := e.compareTo(next)
	out := api.Plan{File: f.Name, Changes: []string{}, Services: []api.ServicePlan{}}
	if f.Text == "" {
		out.File = e.opts.File
	}
	for _, w := range warnings {
		out.Warnings = append(out.Warnings, w.Error())
	}
	for _, c := range conf.Diff(d.now, next) {
		if c.Restart {
			out.Restart = append(out.Restart, c.Text)
		} else {
			out.Changes = append(out.Changes, c.Text)
		}
	}
	if err := guard(d.now, next, d.wrong); err != nil {
		for line := range strings.Lines(err.Error()) {
			out.Refused = append(out.Refused, strings.TrimSpace(line))
		}
	}
	if err := d.services(&out); err != nil {
		return api.Plan{}, err
	}
	return out, nil
}

// read parses a configuration from a request: that of the daemon's own file if there is no text.
func (e *Engine) read(f api.File) (*conf.Config, []conf.Problem, error) {
	switch {
	case f.Text == "" && e.opts.Load != nil:
		return e.opts.Load()
	case f.Text != "" && e.opts.Parse != nil:
		return e.opts.Parse(f.Name, []byte(f.Text))
	}
	return nil, nil, errNoFile
}

// difference is two configurations and what has to be known of the engine to compare them: a copy,
// so that nothing is locked while tables are built.
type difference struct {
	wrong       bool // the last file that the daemon read was refused
	now, next   *conf.Config
	overrides   override.Set
	down        map[service.BackendID]bool
	last        map[service.BackendID]int    // mh's last weights
	connections map[service.BackendID]uint64 // in the table
}

func (e *Engine) compareTo(next *conf.Config) *difference {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := &difference{
		now: e.cfg, next: next, wrong: e.reloaded.err != nil, overrides: e.overrides, down: e.judged.down,
		last: make(map[service.BackendID]int), connections: make(map[service.BackendID]uint64),
	}
	for id := 1; id < len(e.ids.Backend); id++ {
		b, load := &e.ids.Backend[id], e.loads.Of(uint32(id))
		d.connections[b.ID] += uint64(load.Active) + uint64(load.Inactive)
		d.last[b.ID] = b.Last
	}
	return d
}

// services adds to the plan what would become of each service. Those that stay as they are are left
// out.
func (d *difference) services(out *api.Plan) error {
	before := make(map[service.Key]*conf.Service, len(d.now.Services))
	for i := range d.now.Services {
		before[d.now.Services[i].Key] = &d.now.Services[i]
	}
	changed := d.changedServices()
	samples := &sampler{now: sched.NewBuilder(tables.HashKey(d.now.Engine.HashKey)), next: sched.NewBuilder(tables.HashKey(d.next.Engine.HashKey))}
	for i := range d.next.Services {
		s := &d.next.Services[i]
		was := before[s.Key]
		delete(before, s.Key)
		p := d.service(was, s)
		out.Connections += p.Connections
		out.Affected += p.Affected
		if was != nil && !changed[s.Key] && len(p.Backends) == 0 && d.now.Engine.HashKey == d.next.Engine.HashKey {
			continue
		}
		if was != nil {
			var err error
			if p.ClientsMoved, err = samples.moved(s.Key, was.Scheduler, s.Scheduler, d.candidates(was), d.candidates(s)); err != nil {
				return err
			}
		}
		out.Services = append(out.Services, p)
	}
	for i := range d.now.Services {
		if s := &d.now.Services[i]; before[s.Key] != nil {
			p := d.service(s, nil)
			out.Connections += p.Connections
			out.Affected += p.Affected
			out.Services = append(out.Services, p)
		}
	}
	return nil
}

// changedServices are those that a diff has something to say about, besides their backends.
func (d *difference) changedServices() map[service.Key]bool {
	changed := make(map[service.Key]bool)
	before := make(map[service.Key]conf.Service, len(d.now.Services))
	for _, s := range d.now.Services {
		s.Backends = nil
		before[s.Key] = s
	}
	for _, s := range d.next.Services {
		s.Backends = nil
		was, there := before[s.Key]
		changed[s.Key] = !there || len(conf.Diff(&conf.Config{Services: []conf.Service{was}}, &conf.Config{Services: []conf.Service{s}})) > 0
	}
	return changed
}

// service says what would become of a service and its backends; was or s may be nil.
func (d *difference) service(was, s *conf.Service) api.ServicePlan {
	named, does := s, api.PlanChange
	switch {
	case was == nil:
		does = api.PlanAdd
		was = &conf.Service{}
	case s == nil:
		named, does = was, api.PlanRemove
		s = &conf.Service{}
	}
	p := api.ServicePlan{Name: named.Name, Key: named.Key.String(), Does: does, Backends: []api.BackendPlan{}}
	before := make(map[service.BackendKey]*conf.Backend, len(was.Backends))
	for i := range was.Backends {
		b := &was.Backends[i]
		before[b.Key] = b
		p.Connections += d.connections[named.Key.BackendID(b.Key)]
	}
	for i := range s.Backends {
		b := &s.Backends[i]
		if line := d.backend(named.Key, before[b.Key], b); line.Does != api.PlanSame {
			p.Backends = append(p.Backends, line)
		}
		delete(before, b.Key)
	}
	for i := range was.Backends {
		if b := &was.Backends[i]; before[b.Key] != nil {
			line := d.backend(named.Key, b, nil)
			p.Affected += line.Connections
			p.Backends = append(p.Backends, line)
		}
	}
	return p
}

func (d *difference) backend(of service.Key, was, b *conf.Backend) api.BackendPlan {
	named, does := b, api.PlanAdd
	switch {
	case b == nil:
		named, does = was, api.PlanRemove
	case was != nil && (was.Weight != b.Weight || was.Mode != b.Mode):
		does = api.PlanChange
	case was != nil:
		does = api.PlanSame
	}
	name := of.BackendID(named.Key)
	o := d.overrides[name]
	p := api.BackendPlan{Backend: named.Key.String(), Does: does, Connections: d.connections[name]}
	if was != nil {
		p.Weight = o.EffectiveWeight(was.Weight)
	}
	if b != nil {
		p.NewWeight = o.EffectiveWeight(b.Weight)
		if o.Yields(b.Weight) {
			o = o.WithoutWeight()
		}
		p.Override = string(o.Kind())
	}
	return p
}

// candidates is what the service's scheduler would choose from, in the order of fillPool.
func (d *difference) candidates(s *conf.Service) []sched.Candidate {
	all := make([]sched.Candidate, 0, len(s.Backends))
	for i := len(s.Backends) - 1; i >= 0; i-- {
		b := &s.Backends[i]
		name := s.Key.BackendID(b.Key)
		last := d.last[name]
		if b.Weight > 0 {
			last = b.Weight
		}
		all = append(all, sched.Candidate{
			Weight: uint32(d.overrides.Weight(name, b.Weight)), LastWeight: uint32(last), Up: !d.down[name],
			Key: netip.AddrPortFrom(b.Key.Address, b.Key.Port),
		})
	}
	return all
}

// sampler asks old and new schedulers for the same clients.
type sampler struct{ now, next *sched.Builder }

// sampledClients is how many clients are asked for: the share is right to a hundredth, nearly
// always.
const sampledClients = 1 << 14

// moved is the share of clients that go elsewhere, or nil where clients belong to no backend.
func (s *sampler) moved(k service.Key, was, is string, before, after []sched.Candidate) (*float64, error) {
	if !byHash(was) || !byHash(is) {
		return nil, nil
	}
	then, err := s.now.New(was, before)
	if err != nil {
		return nil, err
	}
	now, err := s.next.New(is, after)
	if err != nil {
		return nil, err
	}
	var state sched.State
	loads := counter.NewLoads(1, 1)
	vip := packet.AddrFrom(k.Address)
	key := sched.Key{VIP: [2]uint64{vip.Hi, vip.Lo}, VIPPort: k.Ports.First, IPv4: k.Address.Is4()}
	different := 0
	for i := range uint64(sampledClients) {
		key.Client, key.ClientPort = client(i, vip)
		if picked(before, then.Pick(&state, loads, &key)) != picked(after, now.Pick(&state, loads, &key)) {
			different++
		}
	}
	share := float64(different) / sampledClients
	return &share, nil
}

// byHash says that the scheduler gives equal clients equal backends.
func byHash(scheduler string) bool {
	return scheduler == "sh" || scheduler == "dh" || scheduler == "mh"
}

// picked is the backend that a scheduler means; the zero AddrPort: none.
func picked(all []sched.Candidate, at int) netip.AddrPort {
	if at < 0 {
		return netip.AddrPort{}
	}
	return all[at].Key
}

// client is the i-th of many different clients, of the family of vip: the same in every plan,
// spread over all addresses by a multiplication with an odd number.
func client(i uint64, vip packet.Addr) (addr [2]uint64, port uint16) {
	x := (i + 1) * 0x9E3779B97F4A7C15
	if vip.Is4() {
		return [2]uint64{vip.Hi, vip.Lo&^0xFFFFFFFF | x>>32}, uint16(x)
	}
	return [2]uint64{0x20010db8<<32 | x>>40, x * 0xBF58476D1CE4E5B9}, uint16(x)
}
