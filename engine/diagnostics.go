package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"sluice/engine/answers"
	"sluice/engine/api"
	"sluice/engine/inspect"
	"sluice/engine/steer"
	"sluice/engine/worker"
	"sluice/pipeline"
)

// names returns the meanings of the numbers that the packet path uses now. The caller holds mu.
func (e *Engine) names() inspect.Names {
	n := inspect.Names{Services: e.compiled.Services(), Backends: e.compiled.Backends(), Lists: e.compiled.Lists()}
	for _, p := range e.cfg.Ports {
		n.PortName = append(n.PortName, p.Name)
	}
	return n
}

// steering decides about frames by the rules in force. The caller holds mu.
func (e *Engine) steering() *steer.Decider {
	if e.decider == nil {
		e.decider = steer.NewDecider(e.compiled.Rules)
	}
	return e.decider
}

// newTracer returns what Trace uses.
func (e *Engine) newTracer() *inspect.Tracer {
	return &inspect.Tracer{
		Workers: func() *worker.Set { return e.workers },
		Names: func() (inspect.Names, *steer.Decider) {
			e.mu.Lock()
			defer e.mu.Unlock()
			return e.names(), e.steering()
		},
		Ending: e.closing, Stopped: errClosed,
	}
}

// Trace implements api.Tracer.
func (e *Engine) Trace(ctx context.Context, q api.TraceQuery, emit func(api.TraceEvent) error) (api.TraceEnd, error) {
	return e.tracer.Trace(ctx, q, emit)
}

// snapshot returns the state of the running balancer. The numbers of workers that do not answer are
// appended to silent.
func (e *Engine) snapshot(silent *[]int) (*inspect.Snapshot, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errClosed
	}
	s := &inspect.Snapshot{
		Names: e.names(), Config: e.cfg, Tables: e.tables.Load(), Steering: e.steering(), Ports: e.surroundings.Ports, Asked: e.surroundings.Asked,
		Health: e.health.policy.Refreshed(e.prober.States()),
		Seed:   &e.seed, Loads: e.loads, Workers: len(e.workers.All),
		Now: worker.NowMs, Queues: e.portQueues,
		Conns: func(ctx context.Context, client netip.Addr) (found []worker.Conn, err error) {
			missing, err := e.answers.EachConn(ctx, family(client), func(_ int, c worker.Conn) bool {
				if c.Client.Netip() == client {
					found = append(found, c)
				}
				return true
			})
			*silent = append(*silent, missing...)
			return found, err
		},
	}
	s.OnWorker = func(ctx context.Context, worker int, f func(*pipeline.Processor)) error {
		w := e.workers.All[worker]
		var stale error
		err := w.Ask(ctx, func() {
			if e.tables.Load() != s.Tables { // and a Processor must not see older ones again
				stale = inspect.ErrStale
				return
			}
			f(w.Processor())
		})
		if err != nil {
			*silent = append(*silent, worker)
			return fmt.Errorf("worker %d: %w", worker, err)
		}
		return stale
	}
	return s, nil
}

// portQueues returns the queues of all open ports, without ports that the platform cannot ask, and
// none if the worker does not answer.
func (e *Engine) portQueues(ctx context.Context) (out []inspect.PortQueues, err error) {
	e.mu.Lock()
	ports := slices.Clone(e.hardware.Ports)
	e.mu.Unlock()
	w := e.workers.All[0] // it has a queue at every port
	err = w.Ask(ctx, func() {
		for _, i := range w.OpenPorts() {
			if s, err := e.platform.Steering(i); err == nil {
				out = append(out, inspect.PortQueues{Name: ports[i].Name, Used: len(ports[i].Queues), Steering: s})
			}
		}
	})
	if errors.Is(err, worker.ErrSilent) {
		return nil, nil
	}
	return out, err
}

// staleTries is how often Explain starts again because the tables have changed meanwhile.
const staleTries = 20

// Explain implements api.Explainer.
func (e *Engine) Explain(ctx context.Context, q api.Tuple) (out api.Explanation, err error) {
	var silent []int
	for range staleTries {
		var s *inspect.Snapshot
		if s, err = e.snapshot(&silent); err != nil {
			break
		}
		if out, err = s.Explain(ctx, q); !errors.Is(err, inspect.ErrStale) {
			break
		}
	}
	if err == nil {
		err = answers.Unresponsive(silent, false)
	}
	return out, err
}
