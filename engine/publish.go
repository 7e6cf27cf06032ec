package engine

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"sluice/conf"
	"sluice/engine/accesslist"
	"sluice/engine/health"
	"sluice/engine/health/policy"
	"sluice/engine/health/truepath"
	"sluice/engine/override"
	"sluice/engine/platform"
	"sluice/engine/route"
	"sluice/engine/steer"
	"sluice/engine/tables"
	"sluice/pipeline/service"
)

// update is what the workers' tables, the steering rules and the health checks are to follow from
// next. Its policy is nil until it is evaluated.
type update struct {
	config    *conf.Config
	overrides override.Set
	access    accesslist.Entries
	results   map[service.BackendID]health.State // of the checks
	direct    error                              // why checks do not take their path
	checks    *health.Change                     // nil: the checks stay as they are
	ended     tables.Former                      // what has no connections any more

	policy *policy.State
	events []policy.Event
}

// present returns the update that changes nothing but what comes from outside. The caller holds mu.
func (e *Engine) present() update {
	return update{config: e.cfg, overrides: e.overrides, access: e.access, results: e.health.checks, direct: e.direct}
}

// republish publishes tables for what comes from outside. The caller holds mu.
func (e *Engine) republish() error {
	u := e.present()
	return e.publish(&u)
}

// publish makes an update take effect, in the four steps that package tables describes. On error
// nothing has changed. The caller holds mu.
func (e *Engine) publish(u *update) error {
	e.health.behind = true
	if u.policy == nil {
		now := e.health.policy
		u.policy, u.events = now.Step(e.policyInput(u, now.Freeze()))
	}
	out := e.outsideOf(u.config)
	in := e.resolve(u.policy, out)
	in.Ended = u.ended
	in.Lists = accesslist.Compile(u.config, u.access, time.Now(), e.compiled.Lists())
	compiled, err := tables.Compile(&in, e.compiled)
	if err != nil {
		return err
	}
	newRules := !reflect.DeepEqual(compiled.Rules, e.compiled.Rules)
	if newRules {
		if err := e.steer(compiled.Rules); err != nil {
			return err
		}
	}
	if out != e.outside {
		e.setPaths(out.paths)
	}
	if u.checks != nil {
		if err := u.checks.Commit(); err != nil {
			e.setPaths(e.pathsFor(e.cfg))
			return errors.Join(err, e.platform.Steer(e.compiled.Rules))
		}
	}
	e.takeover.KeepNumbers(&compiled, &e.compiled)
	e.workers.PreparePorts(compiled.Tables)
	e.tables.Store(compiled.Tables)
	e.outside = out
	if newRules {
		e.decider = nil
		e.kernel.Want(compiled.Rules.Replies)
	}
	e.commit(u, &compiled)
	e.wake()
	return nil
}

// prepared is the health checks of a configuration, ready to run.
type prepared struct {
	change  *health.Change
	results map[service.BackendID]health.State
	direct  error // see update
}

// prepare returns the health checks of a configuration. The caller holds mu.
func (e *Engine) prepare(cfg *conf.Config) (prepared, error) {
	checks, direct := e.checks(cfg)
	change, err := e.prober.Prepare(checks)
	if err != nil {
		return prepared{}, err
	}
	return prepared{change, change.States(), direct}, nil
}

// adopt makes cfg the running configuration, or changes nothing. The caller holds mu.
func (e *Engine) adopt(cfg *conf.Config) error {
	if e.closed {
		return errClosed
	}
	had, why := e.detour.Load(), e.detourErr
	e.openDetour(cfg)
	checks, err := e.prepare(cfg)
	if err == nil {
		err = e.publish(&update{
			config: cfg, overrides: e.overrides, access: e.access, results: checks.results, direct: checks.direct, checks: checks.change,
		})
	}
	if err != nil {
		if d := e.detour.Load(); d != had {
			e.detour.Store(had)
			err = errors.Join(err, d.Close())
		}
		e.detourErr = why
		e.setPaths(e.pathsFor(e.cfg)) // releases the targets of checks that do not come
		return err
	}
	e.platform.SetNeighbours(e.backendAddrs())
	return nil
}

// steer programs rules that were compiled. On error the former rules are in force. The caller holds
// mu.
//
// It is called before the workers get the tables, for two reasons. A backend's first reply finds
// its rule. And if the platform refuses the rules, no packet was handled by the tables, so that no
// connection contains their numbers.
func (e *Engine) steer(rules steer.Rules) error {
	err := e.platform.Steer(rules)
	if err != nil && e.tables.Load() != nil {
		// After an error the platform may have a mixture of both.
		err = errors.Join(err, e.platform.Steer(e.compiled.Rules))
	}
	return err
}

// commit makes an update that is published the state that the next one follows from. The caller
// holds mu.
func (e *Engine) commit(u *update, compiled *tables.Result) {
	e.compiled = *compiled
	e.cfg, e.overrides, e.access, e.direct, e.health.checks = u.config, u.overrides, u.access, u.direct, u.results
	e.published++
	if len(u.events) > 0 || e.published == 1 {
		e.takeover.KeepHealth(u.results)
	}
	e.commitHealth(u.policy, u.events)
}

// resolve collects what tables follow from. The caller holds mu.
func (e *Engine) resolve(health *policy.State, out *outside) tables.Input {
	return tables.Input{
		Health: health, Hops: e.surroundings.Table, Locals: e.surroundings.Locals,
		Broadcasts: e.surroundings.Broadcasts, Networks: platform.Networks(e.surroundings),
		Sources: out.sources, KernelPorts: e.platform.LocalPortRange(),
		Cards: cards(e.hardware), Workers: e.cores,
		Probed: out.paths.probed, Probers: out.paths.probers, VIPs: out.vips,
		Seed: &e.seed, Now: time.Now(), Stations: out.stations,
	}
}

// outside is what tables follow from and what takes longer to find out the more backends there are.
// It stays the same object for as long as the configuration and the surroundings do, so that a
// change of one backend does not depend on the number of the others. It is immutable.
type outside struct {
	config       *conf.Config
	surroundings *route.Snapshot
	detour       *truepath.Detour

	paths   paths
	sources map[netip.Addr]netip.Addr // by tun backend: local address towards it
	vips    []netip.Addr              // services' addresses that the kernel does not own
	// stations: what frames to this host are addressed to
	stations []steer.Station
}

// outsideOf returns the outside of a configuration. The caller holds mu.
func (e *Engine) outsideOf(cfg *conf.Config) *outside {
	if o := e.outside; o != nil && o.config == cfg && o.surroundings == e.surroundings && o.detour == e.detour.Load() {
		return o
	}
	return &outside{
		config: cfg, surroundings: e.surroundings, detour: e.detour.Load(),
		paths: e.pathsFor(cfg), sources: e.tunnelSources(cfg), vips: unowned(cfg, e.surroundings), stations: platform.Stations(e.surroundings),
	}
}

// unowned returns the services' addresses that the kernel neither has nor has a host route to,
// ascending.
func unowned(cfg *conf.Config, around *route.Snapshot) (vips []netip.Addr) {
	for i := range cfg.Services {
		if a := cfg.Services[i].Key.Address; !around.Owns(a) {
			vips = append(vips, a)
		}
	}
	slices.SortFunc(vips, netip.Addr.Compare)
	return slices.Compact(vips)
}

// tunnelSources returns the local addresses towards all tun backends, configured ones and those
// that may have connections still. The caller holds mu.
func (e *Engine) tunnelSources(cfg *conf.Config) map[netip.Addr]netip.Addr {
	sources := make(map[netip.Addr]netip.Addr)
	for _, b := range e.compiled.Backends() {
		if b.Mode == service.TUN {
			sources[b.ID.Backend.Address] = e.sourceTo(b.ID.Backend.Address)
		}
	}
	for i := range cfg.Services {
		for _, b := range cfg.Services[i].Servers() {
			if b.Mode == service.TUN {
				sources[b.Key.Address] = e.sourceTo(b.Key.Address)
			}
		}
	}
	return sources
}

// cards returns the network cards of the NIC ports, as far as tables follow from them.
func cards(h *platform.Hardware) []tables.Card {
	cards := make([]tables.Card, len(h.Ports))
	for i := range h.Ports {
		p := &h.Ports[i]
		cards[i] = tables.Card{Name: p.Name, RSS: p.RSS}
		for q := range p.Queues {
			cards[i].Queues = append(cards[i].Queues, p.Queues[q].Number)
		}
	}
	return cards
}
