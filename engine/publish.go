package engine

import (
	"errors"
	"net/netip"
	"reflect"

	"sluice/conf"
	"sluice/engine/health/policy"
	"sluice/engine/platform"
	"sluice/engine/tables"
	"sluice/pipeline/service"
)

// publish makes tables for cfg those of the workers: see package tables for the four steps. On
// error nothing has changed. The caller holds mu.
func (e *Engine) publish(cfg *conf.Config) error {
	now := e.health.policy
	next, events := now.Step(e.policyInput(cfg, now.Freeze()))
	return e.publishHealth(cfg, next, events)
}

// publishHealth is publish with the step of the policy for cfg.
func (e *Engine) publishHealth(cfg *conf.Config, next *policy.State, events []policy.Event) error {
	e.health.behind = true
	e.setPaths(cfg)
	in := e.resolve(next)
	compiled, err := tables.Compile(&in, e.compiled)
	if err != nil {
		return err
	}
	if err := e.steer(&compiled); err != nil {
		return err
	}
	e.tables.Store(compiled.Tables)
	e.commit(&compiled)
	e.commitHealth(next, events)
	return nil
}

// steer has the platform follow the rules of what was compiled. On error those of before are in
// force. The caller holds mu.
//
// It comes before the workers have the tables: a backend's first reply can then find its rule, and
// rules that the platform refuses never had a packet handled by tables that go with them.
func (e *Engine) steer(compiled *tables.Result) error {
	if reflect.DeepEqual(compiled.Rules, e.steered) {
		return nil
	}
	err := e.platform.Steer(compiled.Rules)
	if err != nil && e.tables.Load() != nil {
		err = errors.Join(err, e.platform.Steer(e.steered)) // the platform may have followed half way
	}
	return err
}

// commit makes what was compiled, and is published, the state that the next tables follow from. The
// caller holds mu.
func (e *Engine) commit(compiled *tables.Result) {
	if !reflect.DeepEqual(compiled.Rules, e.steered) {
		e.decider = nil
	}
	e.compiled, e.steered = compiled.State, compiled.Rules
	e.published++
}

// resolve collects what tables follow from. The caller holds mu.
func (e *Engine) resolve(health *policy.State) tables.Input {
	return tables.Input{
		Health: health, Hops: e.surroundings.Table, Locals: e.surroundings.Locals,
		Sources: e.tunnelSources(health.Config().Config), KernelPorts: e.platform.LocalPortRange(),
		Cards: cards(e.hardware), Workers: e.cores, Spread: e.hardware.QueueForEach(e.cores),
		Probed: e.probed, Probers: e.probers,
	}
}

// tunnelSources returns the local addresses towards all tun backends, configured ones and those
// that may have connections still. The caller holds mu.
func (e *Engine) tunnelSources(cfg *conf.Config) map[netip.Addr]netip.Addr {
	for _, b := range e.compiled.Backends() {
		if b.Mode == service.TUN {
			e.sourceTo(b.ID.Backend.Address)
		}
	}
	for i := range cfg.Services {
		for _, b := range cfg.Services[i].Servers() {
			if b.Mode == service.TUN {
				e.sourceTo(b.Key.Address)
			}
		}
	}
	return e.sources
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
