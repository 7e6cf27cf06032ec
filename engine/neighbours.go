package engine

import (
	"context"
	"net/netip"
	"time"

	"sluice/engine/route"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
)

// neighbourWait is how long Start waits for the backends' MAC addresses: a connection that comes
// before them would lose its first packet. A backend that is off doesn't hold up the others for
// longer.
const neighbourWait = time.Second

// awaitNeighbours waits until every backend has a next hop, and names those that haven't in time.
func (e *Engine) awaitNeighbours(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, neighbourWait)
	defer cancel()
	for {
		missing, changed := e.unreachable()
		if len(missing) == 0 {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			for addr, reason := range missing {
				e.log.Warn("backend can't be reached yet", "event", "backend_unreachable", "backend", addr, "why", reason.Text())
			}
			return
		}
	}
}

// unreachable lists the backends without a next hop, and a channel that is closed when that may
// change.
func (e *Engine) unreachable() (map[netip.Addr]counter.Reason, <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	missing := make(map[netip.Addr]counter.Reason)
	for _, addr := range e.backendAddrs() {
		if _, reason := e.surroundings.Table.Lookup(packet.AddrFrom(addr)); reason != counter.None {
			missing[addr] = reason
		}
	}
	return missing, e.changed
}

// sourceTo remembers the platform's answers until the surroundings change. The caller holds mu.
func (e *Engine) sourceTo(dst netip.Addr) netip.Addr {
	if src, ok := e.sources[dst]; ok {
		return src
	}
	if e.sources == nil {
		e.sources = make(map[netip.Addr]netip.Addr)
	}
	src := e.platform.Source(dst)
	e.sources[dst] = src
	return src
}

// logLinks tells of ports that came, went, or lost their link. The caller holds mu.
func (e *Engine) logLinks(s *route.Snapshot) {
	if e.surroundings == nil {
		return
	}
	for i, now := range s.Ports {
		switch was := e.surroundings.Ports[i]; {
		case was.Exists && !now.Exists:
			e.log.Error("interface is gone", "event", "port_gone", "port", now.Name)
		case !was.Exists && now.Exists:
			e.log.Info("interface is there again", "event", "port_back", "port", now.Name)
		case was.Up && !now.Up:
			e.log.Warn("link is down", "event", "link_down", "port", now.Name)
		case !was.Up && now.Up:
			e.log.Info("link is up", "event", "link_up", "port", now.Name)
		}
	}
}
