package engine

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"sluice/engine/answers"
	"sluice/engine/tables"
	"sluice/engine/worker"
	"sluice/pipeline/counter"
	"sluice/pipeline/service"
	"sluice/pipeline/snat"
)

// A backend that is taken out of the configuration, or that gets another mode, is served for as
// long as it has connections, and so is a source of fullnat. Until then its steering rules and its
// numbers stay. Afterwards the numbers are free for others.

// formerPause is the least time between two looks for former backends without connections. Tables
// that take long to build are built less often.
const formerPause = time.Second

// followFormer frees what former backends have when their last connections have ended, and has SNAT
// ports follow the kernel's port range, until ctx ends.
func (e *Engine) followFormer(ctx context.Context) {
	defer e.running.Done()
	tick := time.NewTicker(formerPause)
	defer tick.Stop()
	ports := e.platform.LocalPortRange()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		began := time.Now()
		if now := e.platform.LocalPortRange(); now != ports && e.followPortRange(now) {
			ports = now
		}
		if err := e.endFormer(ctx); err != nil && ctx.Err() == nil {
			e.log.Error("tables could not follow the end of connections; the engine tries again", "event", "tables_failed", "error", err)
		}
		tick.Reset(max(formerPause, pausePerWork*time.Since(began)))
	}
}

// followPortRange publishes tables for another net.ipv4.ip_local_port_range. It reports whether it
// did.
func (e *Engine) followPortRange(now service.Ports) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	if err := e.republish(); err != nil {
		e.log.Error("SNAT ports could not follow net.ipv4.ip_local_port_range", "event", "tables_failed", "error", err)
		return false
	}
	e.log.Info("SNAT ports follow net.ipv4.ip_local_port_range", "event", "port_range", "first", now.First, "last", now.Last)
	return true
}

// endFormer frees the numbers and SNAT pools of former backends that have no connections.
func (e *Engine) endFormer(ctx context.Context) error {
	e.mu.Lock()
	cfg, state := e.cfg, e.compiled.State
	e.mu.Unlock()
	backends, pools := state.Former()
	if len(backends)+len(pools) == 0 {
		return nil
	}
	ended, err := e.unused(ctx, backends, pools)
	if err != nil || len(ended.Backends)+len(ended.Pools) == 0 {
		return err
	}
	traffic := make([]counter.Backend, len(ended.Backends))
	for from := 0; from < len(traffic) && err == nil; from += answers.IDsPerVisit {
		to := min(from+answers.IDsPerVisit, len(traffic))
		err = e.workers.OnAll(ctx, func(w *worker.Worker) { w.MoveTraffic(traffic[from:to], ended.Backends[from:to]) })
	}
	e.answers.Forget(ended.Backends)
	e.mu.Lock()
	defer e.mu.Unlock()
	known := state.Backends()
	for i, number := range ended.Backends {
		e.addPast(known[number].ID, &traffic[i])
	}
	e.takeover.KeepPast(e.past)
	if err != nil || e.closed || e.cfg != cfg {
		return err // a number may be in use again
	}
	u := e.present()
	u.ended = ended
	if err := e.publish(&u); err != nil {
		return err
	}
	e.foldPast()
	e.platform.SetNeighbours(e.backendAddrs())
	return nil
}

// unused returns which of these backends and pools no connection and no persistence template uses.
// No new ones can come, because every worker has the present tables before it is asked.
func (e *Engine) unused(ctx context.Context, backends []uint32, pools map[tables.PoolName][]*snat.Pool) (tables.Former, error) {
	if err := e.workers.OnAll(ctx, func(*worker.Worker) {}); err != nil {
		return tables.Former{}, err
	}
	var left tables.Former
	for _, number := range backends {
		if e.loads.Of(number) == (counter.Load{}) {
			left.Backends = append(left.Backends, number)
		}
	}
	bound := make(map[uint32]bool) // by templates
	for part := range slices.Chunk(left.Backends, answers.IDsPerVisit) {
		err := e.workers.OnAll(ctx, func(w *worker.Worker) {
			for _, number := range part {
				if w.Processor().Templates(number) > 0 {
					bound[number] = true
				}
			}
		})
		if err != nil {
			return tables.Former{}, err
		}
	}
	left.Backends = slices.DeleteFunc(left.Backends, func(number uint32) bool { return bound[number] })
	err := e.workers.OnAll(ctx, func(w *worker.Worker) {
		maps.DeleteFunc(pools, func(_ tables.PoolName, of []*snat.Pool) bool { return !w.Processor().EndPool(of[w.ID()]) })
	})
	left.Pools = slices.Collect(maps.Keys(pools))
	return left, err
}

// addPast adds what was counted under a number of the backend that is about to be free. The caller
// holds mu.
func (e *Engine) addPast(id service.BackendID, traffic *counter.Backend) {
	sum := e.past[id]
	sum.Add(traffic)
	e.past[id] = sum
}

// foldPast adds the past traffic of backends that are no longer known to their service's, and
// forgets services that are no longer known. A service's own has no backend. The caller holds mu.
func (e *Engine) foldPast() {
	services := make(map[service.Key]bool)
	for _, s := range e.compiled.Services() {
		services[s.Key] = true
	}
	for id, traffic := range e.past {
		if of := (service.BackendID{Service: id.Service}); id != of && len(e.compiled.Numbers(id)) == 0 {
			delete(e.past, id)
			e.addPast(of, &traffic)
		}
	}
	maps.DeleteFunc(e.past, func(id service.BackendID, _ counter.Backend) bool { return !services[id.Service] })
}

// backendAddrs returns the address of every backend, once: of those that are configured and of
// former ones.
func (e *Engine) backendAddrs() []netip.Addr {
	seen := make(map[netip.Addr]bool)
	for _, s := range e.cfg.Services {
		for _, b := range s.Servers() {
			seen[b.Key.Address] = true
		}
	}
	for _, b := range e.compiled.Backends() {
		if b.ID.Backend.Address.IsValid() {
			seen[b.ID.Backend.Address] = true
		}
	}
	return slices.SortedFunc(maps.Keys(seen), netip.Addr.Compare)
}
