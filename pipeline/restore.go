package pipeline

import (
	"sluice/pipeline/conn"
	"sluice/pipeline/flow"
	"sluice/pipeline/service"
	"sluice/pipeline/snat"
)

// Connections of a former process of the daemon are restored before the first packet is processed:
// the engine reads them from its memory (conn.Entries), gives their services and backends the
// numbers that they have now, and then calls these functions. Persistence templates come first.

// RestoredBy returns the worker that a connection of a former process belongs to, among this many
// workers. former is the worker that had it, of formerly many. misplaced: the client's packets come
// to another worker. ok is false if the tables have no place for it.
func (t *Tables) RestoredBy(e *conn.Entry, former, formerly, workers int, seed *flow.Seed) (worker int, misplaced, ok bool) {
	be := &t.Backends[e.Backend]
	switch {
	case !e.IsTemplate() && !e.HasBackendAddr(be.Addr):
		return 0, false, false // half written, or another backend
	case !e.IsTemplate() && (be.Mode == service.FullNAT) != (e.Flags&conn.Translated != 0):
		return 0, false, false
	}
	worker, hashed := t.Services[e.Service()].Ownership.hashed(seed, e.Client, e.ClientPort(), e.Proto(), workers)
	if !hashed {
		// the receiver: if that is another worker now, it asks the others about TCP, but opens UDP
		worker = former % workers
		misplaced = e.Flags&conn.IsUDP != 0 && formerly != workers && !e.IsTemplate()
	}
	if e.Flags&conn.Translated == 0 {
		return worker, misplaced, true
	}
	holder, ok := t.portHolder(e)
	return holder, misplaced || holder != worker, ok
}

// portHolder returns the worker with the SNAT port of a fullnat connection.
func (t *Tables) portHolder(e *conn.Entry) (worker int, ok bool) {
	if ref := t.refOf(e.Backend, e.Source); ref != nil {
		for worker, pool := range ref.Pools {
			if pool.Has(e.Extra) {
				return worker, true
			}
		}
	}
	return 0, false
}

// refOf returns a source as a backend has it, nil if it does not.
func (t *Tables) refOf(backend uint32, source uint8) *snat.Ref {
	refs := t.Pools[backend]
	for i := range refs {
		if r := &refs[i]; r.Source == source {
			return r
		}
	}
	return nil
}

// Restore gives the worker a connection or a template of a former process, and reports whether it
// had space for it. All of e is as in tables t and in this process's time. Only the owning
// goroutine may call it, or any before that runs.
func (p *Processor) Restore(t *Tables, e *conn.Entry, nowMs uint32) bool {
	if p.now = nowMs; p.t != t {
		p.useTables(t)
	}
	table := p.v6
	if e.Client.Is4() {
		table = p.v4
	}
	var pool *snat.Pool
	if e.Flags&conn.Translated != 0 {
		pool = t.refOf(e.Backend, e.Source).Pools[p.worker]
		if !pool.Claim(p.ports, e.Extra) {
			return false
		}
	}
	c := table.Restore(e, nowMs)
	if c == nil {
		if pool != nil {
			pool.Release(p.ports, e.Extra, 0, nowMs)
		}
		return false
	}
	if c.IsTemplate() {
		p.templates[c.Backend]++
		return true
	}
	if pool != nil {
		pool.Bind(c.Extra, table.Slot(c))
	}
	p.restoreCounts(table, c, e)
	return true
}

// restoreCounts counts a restored connection as insert and bindTemplate count a new one.
func (p *Processor) restoreCounts(t *conn.Table, c *conn.Conn, e *conn.Entry) {
	switch {
	case c.Ended():
		c.Flags &^= conn.Proven
		p.noteDisposable(&p.ended, t, c)
	case c.Flags&conn.Proven != 0:
		p.addProven(c, 1)
	default:
		p.began(t, c)
	}
	if c.Flags&conn.NoOutput != 0 {
		c.Extra = p.openedAt()
	}
	if c.State.Active() {
		p.loads.Add(p.worker, c.Backend, 1, 0)
	} else {
		p.loads.Add(p.worker, c.Backend, 0, 1)
	}
	if e.Flags&conn.Doubted != 0 && 1<<c.State&openStates != 0 && !p.doubts.full() {
		c.Flags |= conn.Doubted // the answer to a RST probe of the former process may be lost
		p.doubts.add(t.Slot(c), t == p.v6, p.now)
	}
	p.countSource(c, e.Client)
	p.Packets.ConnOpened++ // at this worker; its backend has counted it before
	if e.Flags&conn.HasTemplate == 0 {
		return
	}
	if tp := p.findTemplate(t, e.Client, c.Proto(), c.Service(), c.VIPPort()); tp != nil {
		tp.Ref()
		c.Flags |= conn.HasTemplate
	}
}
