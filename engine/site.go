package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"sluice/conf"
	"sluice/engine/api"
	"sluice/engine/platform"
	"sluice/engine/route"
	"sluice/engine/steer"
	"sluice/engine/tables"
	"sluice/engine/worker"
	"sluice/pipeline"
	"sluice/pipeline/counter"
	"sluice/pipeline/flow"
	"sluice/pipeline/service"
)

// site is a balancer at one moment, as those see it who want to know why it does what it does: the
// running one, or one that exists only in a file. Its fields are copies that nobody changes.
type site struct {
	names
	cfg     *conf.Config
	tables  *pipeline.Tables
	steer   *steer.Decider
	ports   []route.PortState
	judged  *judgement
	frozen  map[service.Key]bool // services whose health an operator has frozen
	weights map[service.BackendID]int
	seed    *flow.Seed
	loads   *counter.Loads
	workers int

	now func() uint32 // tick of the workers' clock
	// on calls f where the worker's Processor may be touched.
	on func(ctx context.Context, worker int, f func(p *pipeline.Processor)) error
	// flows lists the connections of a client. nil: there are none.
	flows func(ctx context.Context, client netip.Addr) ([]worker.Conn, error)
	// queues tells what becomes of frames before they reach a queue of ours. nil: there are no
	// queues.
	queues func(ctx context.Context) ([]portQueues, error)
}

// names put numbers of the packet path into words.
type names struct {
	services []conf.Service        // by id
	backends []tables.BackendEntry // by id
	portName []string
}

// portQueues is what a port has and what of it is ours.
type portQueues struct {
	name string
	ours int // queues with a socket of ours
	platform.Steering
}

func (n *names) service(id uint32) string {
	if int(id) >= len(n.services) {
		return fmt.Sprintf("service %d", id)
	}
	s := &n.services[id]
	return fmt.Sprintf("%s (%s)", s.Name, s.Key)
}

func (n *names) backend(id uint32) string {
	if int(id) >= len(n.backends) {
		return fmt.Sprintf("backend %d", id)
	}
	b := &n.backends[id]
	if b.ID.Backend.Port == 0 {
		return b.ID.Backend.Address.String()
	}
	return b.ID.Backend.String()
}

func (n *names) port(i uint8) string {
	if int(i) >= len(n.portName) {
		return fmt.Sprintf("port %d", i)
	}
	return n.portName[i]
}

// names copies what the packet path's numbers mean now. The caller holds mu.
func (e *Engine) names() names {
	n := names{services: slices.Clone(e.ids.Service), backends: slices.Clone(e.ids.Backend)}
	for _, p := range e.cfg.Ports {
		n.portName = append(n.portName, p.Name)
	}
	return n
}

// steering decides about frames by the rules in force. The caller holds mu.
func (e *Engine) steering() *steer.Decider {
	if e.decider == nil {
		e.decider = steer.NewDecider(e.steered)
	}
	return e.decider
}

// site is the running balancer as it is now.
func (e *Engine) site() (*site, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errClosed
	}
	s := &site{
		names: e.names(), cfg: e.cfg, tables: e.tables.Load(), steer: e.steering(), ports: e.surroundings.Ports,
		judged: e.refreshed(), frozen: e.frozen(), weights: e.overrides.Weights(e.cfg),
		seed: &e.seed, loads: e.loads, workers: len(e.workers.All),
		now: worker.NowMs, flows: e.flowsOf, queues: e.portQueues,
	}
	s.on = func(ctx context.Context, worker int, f func(*pipeline.Processor)) error {
		w := e.workers.All[worker]
		var stale error
		err := w.Do(ctx, func() {
			if e.tables.Load() != s.tables { // and a Processor must not see older ones again
				stale = errStale
				return
			}
			f(w.Processor())
		})
		if err != nil {
			return fmt.Errorf("worker %d: %w", worker, err)
		}
		return stale
	}
	return s, nil
}

// flowsOf lists a client's connections, all workers'.
func (e *Engine) flowsOf(ctx context.Context, client netip.Addr) (found []worker.Conn, err error) {
	family := 6
	if client.Is4() {
		family = 4
	}
	for _, w := range e.workers.All {
		for cursor := uint32(0); ; {
			var part []worker.Conn
			if err := w.Do(ctx, func() { part, cursor = w.Conns(family, cursor) }); err != nil {
				return nil, err
			}
			for _, r := range part {
				if r.Client.Netip() == client {
					found = append(found, r)
				}
			}
			if cursor == 0 {
				break
			}
		}
	}
	return found, nil
}

// portQueues asks the platform about every port that is open. A port that can't be asked is left
// out.
func (e *Engine) portQueues(ctx context.Context) (out []portQueues, err error) {
	e.mu.Lock()
	ports := slices.Clone(e.hardware.Ports)
	e.mu.Unlock()
	w := e.workers.All[0] // it has a queue at every port
	err = w.Do(ctx, func() {
		for _, i := range w.OpenPorts() {
			if s, err := e.platform.Steering(i); err == nil {
				out = append(out, portQueues{ports[i].Name, len(ports[i].Queues), s})
			}
		}
	})
	return out, err
}

// errStale is what asking a worker gives when there are newer tables than the site's.
var errStale = errors.New("the tables change all the time: try again")

// staleTries is how often a question is asked again because the tables have changed meanwhile.
const staleTries = 20

// Explain implements api.Explainer.
func (e *Engine) Explain(ctx context.Context, q api.Tuple) (out api.Explanation, err error) {
	for range staleTries {
		var s *site
		if s, err = e.site(); err != nil {
			break
		}
		if out, err = s.explain(ctx, q); !errors.Is(err, errStale) {
			break
		}
	}
	return out, err
}
