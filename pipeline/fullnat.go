package pipeline

import (
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/flow"
	"sluice/pipeline/packet"
	"sluice/pipeline/servicemap"
	"sluice/pipeline/snat"
)

// useTables prepares for tables that were not seen before: it starts RST probes for backends that
// are newly evicted, and for clients that other lists may deny.
func (p *Processor) useTables(t *Tables) {
	lists := p.t != nil && p.t.ListsVersion != t.ListsVersion
	if lists || t.evictsMore(p.t) {
		p.startRSTProbes()
		p.rstProbes.lists = p.rstProbes.lists || lists
	}
	p.t = t
}

// replyEndpoint is the address, port and protocol of fullnat backends, which replies come from.
type replyEndpoint struct {
	pools  [][]*snat.Pool   // by source: the pools of the workers; nil: none
	owners *flow.PortOwners // how its ports are divided; nil: in turn
}

// indexReplyEndpoints finds the pools that replies are matched with.
func (t *Tables) indexReplyEndpoints() {
	t.replyEndpointAt = servicemap.NewEndpoints(len(t.Pools))
	for id, refs := range t.Pools {
		t.pools += len(refs)
		be := &t.Backends[id]
		for i := range refs {
			r := &refs[i]
			at := t.replyEndpointAt.Get(be.Addr, be.Port, r.Proto)
			if at == 0 {
				t.replyEndpoints = append(t.replyEndpoints, replyEndpoint{pools: make([][]*snat.Pool, len(t.Sources))})
				at = uint32(len(t.replyEndpoints))
				t.replyEndpointAt.Put(be.Addr, be.Port, r.Proto, at)
			}
			d := &t.replyEndpoints[at-1]
			d.pools[r.Source] = r.Pools
			if r.Owners != nil {
				d.owners, t.portsByHash = r.Owners, true
			}
		}
		t.anyPort = t.anyPort || be.Port == 0 && len(refs) > 0
	}
}

// replyEndpoint returns the endpoint of the backends with that address, port and protocol, nil if
// there are none. Port 0 is the endpoint of backends of any port.
func (t *Tables) replyEndpoint(backend packet.Addr, port uint16, proto uint8) *replyEndpoint {
	at := t.replyEndpointAt.Get(backend, port, proto)
	if at == 0 {
		return nil
	}
	return &t.replyEndpoints[at-1]
}

// SNATPools returns the number of SNAT pools of each worker, or more if backends share some.
func (t *Tables) SNATPools() int { return t.pools }

// EndPool returns the memory of a pool, unless connections use the pool. It reports
// whether none does.
func (p *Processor) EndPool(pool *snat.Pool) bool {
	if pool.InUse() > 0 {
		return false
	}
	pool.Forget(p.ports)
	return true
}

// portTries bounds how many ports a new connection tries, for each worker.
const portTries = 4

// assignPort gives a new fullnat connection a source and a port, by which replies find it.
func (p *Processor) assignPort(t *conn.Table, c *conn.Conn, backend packet.Addr) counter.Reason {
	for range portTries * p.workers {
		ref := p.nextSource(c, false)
		if ref == nil {
			ref = p.freePortFor(t, c)
		}
		if ref == nil { // none gave way: as long as there are ports, none is refused
			ref = p.nextSource(c, true)
		}
		if ref == nil {
			return p.noPortReason(c)
		}
		if p.takePort(t, c, backend, ref) {
			return counter.None
		}
	}
	return counter.TupleTaken
}

// takePort gives a connection the next port of a source. It reports false, and changes nothing, if
// there is none or if the port conflicts with another connection.
func (p *Processor) takePort(t *conn.Table, c *conn.Conn, backend packet.Addr, ref *snat.Ref) bool {
	pool := ref.Pools[p.worker]
	port, early, ok := p.allocPort(pool, p.t.Sources[ref.Source].Ports)
	if !ok {
		return false
	}
	if p.t.anyPort && p.portConflicts(t, c, backend, ref.Source, port) {
		if p.borrowed == nil {
			pool.Release(p.ports, port, 0, p.now)
		}
		return false
	}
	if early {
		p.Packets.PortReusedEarly++
		p.syns.keepOn(p.now)
	}
	c.Source, c.Extra = ref.Source, port
	p.bindPort(pool, port, t.Slot(c))
	return true
}

// displaceTries bounds how many ports freePortFor looks at for each source. The next call looks at
// others.
const displaceTries = 32

// freePortFor frees a port of another connection to the same backend for a new one. It returns the
// source of the port, nil if it has found none. It begins with the ports that were allocated first.
// If the service has as many unproven connections as it may have in the pool, one of them gives
// way. Otherwise the pool has no free port: one that has ended, and only waits for what is late,
// gives way, or else an unproven one of any service.
func (p *Processor) freePortFor(t *conn.Table, c *conn.Conn) *snat.Ref {
	entries := t
	if l := p.borrowed; l != nil {
		if entries = l.from.v6; t == p.v4 {
			entries = l.from.v4
		}
	}
	refs := p.t.Pools[c.Backend]
	for i := range refs {
		r := &refs[i]
		pool := r.Pools[p.worker]
		if !r.Configured || pool.InUse() == 0 {
			continue
		}
		own := !p.portAdmits(r, c.Service())
		port := pool.Next()
		var e *conn.Conn // the first unproven one that gives way
		for range min(displaceTries, pool.InUse()) {
			var slot uint32
			port, slot = pool.InUseFrom(port)
			if slot != snat.NoSlot && p.t.Sources[r.Source].Ports.Has(port) {
				at := entries.At(slot)
				if e == nil && isUnproven(at) && (!own || at.Service() == c.Service()) {
					e = at
				}
				if own && e != nil || !own && (at.State == conn.TimeWait || at.State == conn.Close) {
					return p.takeFrom(t, at, r, port)
				}
			}
			port++
		}
		if e != nil {
			return p.takeFrom(t, e, r, e.Extra)
		}
		if p.borrowed == nil {
			pool.GoOnFrom(port)
		}
	}
	return nil
}

// isUnproven reports whether a connection is unproven and has not ended.
func isUnproven(c *conn.Conn) bool { return c.Flags&conn.Proven == 0 && !c.Ended() }

// portAdmits reports whether a service may have one more unproven connection from a source.
func (p *Processor) portAdmits(r *snat.Ref, service uint32) bool {
	return r.Pools[p.worker].Admits(p.ports, p.t.Sources[r.Source].Ports, service, p.t.Services[service].Unproven)
}

// poolOf returns the SNAT pool of a connection, nil if it has none, or in a dry run, which must
// leave the pools alone.
func (p *Processor) poolOf(c *conn.Conn) *snat.Pool {
	if c.Flags&conn.Translated == 0 || p.borrowed != nil {
		return nil
	}
	if r := p.sourceOf(c); r != nil {
		return r.Pools[p.worker]
	}
	return nil
}

// takeFrom ends an entry so that its port is free, and returns the source of the port, nil if a
// connection cannot have it. In a dry run it notes the port.
func (p *Processor) takeFrom(t *conn.Table, e *conn.Conn, r *snat.Ref, port uint16) *snat.Ref {
	pool := r.Pools[p.worker]
	if l := p.borrowed; l != nil {
		l.copied, l.released = portBinding{pool: pool, port: port}, true
		return r
	}
	p.displace(t, e)
	pool.GoOnFrom(port + 1)
	if p.freePorts(r) == 0 {
		return nil
	}
	return r
}

// changePort gives a connection another port of its source. The client repeats its SYN after the
// backend has answered it by an ACK without SYN: the backend still has an older connection from the
// port (RFC 9293, 3.10.7.4), and may have others from the ports next to it. If all other ports were
// released lately too, the connection keeps the one that it has: the RST with which the client
// answers such an ACK ends what the backend had.
func (p *Processor) changePort(t *conn.Table, c *conn.Conn, backend packet.Addr) {
	ref := p.sourceOf(c)
	if ref == nil || !ref.Configured {
		return
	}
	pool, port := ref.Pools[p.worker], c.Extra
	if l := p.borrowed; l != nil {
		l.leave(pool)
	}
	if !pool.Leave(p.ports, port, p.t.Sources[ref.Source].Ports, p.now) {
		return
	}
	for range portTries * p.workers {
		if p.takePort(t, c, backend, ref) {
			p.freePort(pool, port, 0)
			return
		}
	}
}

// bindPort records the connection that has a port of a pool.
func (p *Processor) bindPort(pool *snat.Pool, port uint16, slot uint32) {
	if l := p.borrowed; l != nil {
		l.opened = portBinding{pool, port, slot}
		return
	}
	pool.Bind(port, slot)
}

// hasPort reports whether assignPort is certain to succeed for a new connection of the service to
// the backend without another that gives way.
func (p *Processor) hasPort(service, backend uint32) bool {
	if p.t.anyPort {
		return false
	}
	refs := p.t.Pools[backend]
	for i := range refs {
		if r := &refs[i]; r.Configured && p.freePorts(r) > 0 && p.portAdmits(r, service) {
			return true
		}
	}
	return false
}

// noPortReason returns why there is no port for a new connection. A backend that was never
// reachable has no pools.
func (p *Processor) noPortReason(c *conn.Conn) counter.Reason {
	if be := &p.t.Backends[c.Backend]; len(p.t.Pools[c.Backend]) == 0 && be.Unreach != counter.None {
		return be.Unreach
	}
	return counter.SNATExhausted
}

// portConflicts reports whether the connection cannot have a local port although it is free in its
// pool. A backend of any port has a pool of its own, and may be the same host as a backend of the
// port that the client asked for.
func (p *Processor) portConflicts(t *conn.Table, c *conn.Conn, backend packet.Addr, source uint8, port uint16) bool {
	if p.workers > 1 && p.portOwner(backend, c.BackendPort, p.t.Sources[source].Addr, port, c.Proto()) != p.worker {
		return true
	}
	other := uint16(0)
	if p.t.Backends[c.Backend].Port == 0 {
		other = c.BackendPort
	}
	if p.borrowed != nil {
		if p, t = p.borrowed.from, p.borrowed.from.v6; backend.Is4() {
			t = p.v4
		}
	}
	return p.lookupPort(t, source, port, backend, other, c.BackendPort, c.Proto()) != nil
}

// translated returns the fullnat connection with this local port of a source and this backend
// address and port, nil if there is none. One that has expired is left to the sweep and not
// returned.
func (p *Processor) translated(t *conn.Table, source uint8, localPort uint16, backend packet.Addr, port uint16, proto uint8, nowMs uint32) *conn.Conn {
	c := p.lookupPort(t, source, localPort, backend, port, port, proto)
	if c == nil && p.t.anyPort {
		c = p.lookupPort(t, source, localPort, backend, 0, port, proto)
	}
	if c == nil || c.Expired(nowMs) {
		return nil
	}
	return c
}

// lookupPort returns the connection to an address and port of a backend that has the source's local
// port in the pool of the endpoint with port at: that of the backends of one port, or 0 for
// backends of any port.
func (p *Processor) lookupPort(t *conn.Table, source uint8, localPort uint16, backend packet.Addr, at, port uint16, proto uint8) *conn.Conn {
	slot, ok := p.lookupSlot(p.t.replyEndpoint(backend, at, proto), source, localPort)
	if !ok {
		return nil
	}
	c := t.At(slot)
	if c.Source != source || !c.IsTranslated(uint32(port)<<16|uint32(localPort)) {
		return nil
	}
	return c
}

// lookupSlot returns the table slot of the connection to an endpoint that has the source's local
// port.
func (p *Processor) lookupSlot(d *replyEndpoint, source uint8, localPort uint16) (slot uint32, ok bool) {
	if d == nil || d.pools[source] == nil {
		return 0, false
	}
	pool := d.pools[source][p.worker]
	if l := p.borrowed; l != nil {
		return l.lookup(pool, localPort)
	}
	return pool.Lookup(localPort)
}

// nextSource returns the source that a new connection to the connection's backend gets a port of,
// nil if none has a free one. It takes the sources in turn. beyond: also of one that has as many
// unproven connections of the service as it may have.
func (p *Processor) nextSource(c *conn.Conn, beyond bool) *snat.Ref {
	refs := p.t.Pools[c.Backend]
	p.sourceTurn++
	for i := range refs {
		r := &refs[(i+int(p.sourceTurn))%len(refs)]
		if r.Configured && p.freePorts(r) > 0 && (beyond || p.portAdmits(r, c.Service())) {
			return r
		}
	}
	return nil
}

// sourceOf returns the source of a connection as its backend has it, nil if it does not.
func (p *Processor) sourceOf(c *conn.Conn) *snat.Ref { return p.t.refOf(c.Backend, c.Source) }

// freePorts returns the number of ports of a source that a new connection could have.
func (p *Processor) freePorts(r *snat.Ref) int {
	pool := r.Pools[p.worker]
	free := pool.Free(p.ports, p.t.Sources[r.Source].Ports)
	if l := p.borrowed; l != nil && l.released && l.copied.pool == pool {
		free++
	}
	return free
}

// allocPort allocates a port of a pool: see Pool.Alloc.
func (p *Processor) allocPort(pool *snat.Pool, open *snat.PortSet) (port uint16, early, ok bool) {
	if l := p.borrowed; l != nil {
		port, ok = l.alloc(pool, open)
		return port, false, ok
	}
	return pool.Alloc(p.ports, open, p.now)
}

// releasePort releases the port of a fullnat connection that is closed.
func (p *Processor) releasePort(c *conn.Conn) {
	if r := p.sourceOf(c); r != nil {
		idleMs := p.now + p.t.Services[c.Service()].TimeoutsMs[c.State] - c.Expires
		p.freePort(r.Pools[p.worker], c.Extra, max(int32(idleMs), 0))
	}
}

// freePort releases a port of a pool, idleMs after the last packet of its connection.
func (p *Processor) freePort(pool *snat.Pool, port uint16, idleMs int32) {
	if l := p.borrowed; l != nil {
		l.release(pool, port)
		return
	}
	pool.Release(p.ports, port, uint32(idleMs), p.now)
}
