package pipeline

import (
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/flow"
	"sluice/pipeline/packet"
	"sluice/pipeline/sched"
	"sluice/pipeline/snat"
)

// DryRun is what a worker's Processor would do with one frame. The worker's connections, counters
// and scheduler positions do not change: a DryRun has a Processor of its own, with space for one
// flow, and borrows what the real one knows of that flow.
type DryRun struct {
	Before, After Observation    // the connection before and after
	Sched         sched.State    // of the service at that worker, before the frame
	Loads         *counter.Loads // before the frame
	Frame         Frame          // with its verdict
	Picked        bool           // the scheduler was called
	Bound         bool           // persistence binds the client to the backend of Template
	Template      conn.Conn
	Full          bool // a new connection of the service would find no free entry

	p *Processor
	b *Batch
}

// borrowed is what a dry run has of the fullnat connections of the worker. It takes no port of the
// worker's pools, but notes what it would take. Slots are those of the worker's tables and not of
// the dry run's, which have at most one connection.
type borrowed struct {
	from     *Processor
	copied   portBinding  // of the copied connection
	released bool         // copied was released
	opened   portBinding  // of a connection that the dry run opened
	tried    []*snat.Pool // of each port that the dry run would have allocated
	left     *snat.Pool   // its search goes on elsewhere
	at       snat.Position
}

// portBinding is the table slot of the connection that has a port of a pool; nil pool: none.
type portBinding struct {
	pool *snat.Pool
	port uint16
	slot uint32
}

// lookup is Pool.Lookup for the connections of the dry run.
func (l *borrowed) lookup(pool *snat.Pool, port uint16) (slot uint32, ok bool) {
	switch {
	case l.opened.pool == pool && l.opened.port == port:
		return l.opened.slot, true
	case !l.released && l.copied.pool == pool && l.copied.port == port:
		return l.copied.slot, true
	}
	return 0, false
}

// alloc returns the port that Pool.Alloc would return.
func (l *borrowed) alloc(pool *snat.Pool, open *snat.PortSet) (port uint16, ok bool) {
	n := 0
	for _, tried := range l.tried {
		if tried == pool {
			n++
		}
	}
	l.tried = append(l.tried, pool)
	port, ok = pool.Peek(l.from.ports, open, n, l.from.now)
	if !ok && l.released && l.copied.pool == pool {
		return l.copied.port, true
	}
	return port, ok
}

// release notes that a port was released.
func (l *borrowed) release(pool *snat.Pool, port uint16) {
	if l.opened.pool == pool && l.opened.port == port {
		l.opened = portBinding{}
	} else {
		l.released = true
	}
}

// leave notes the position of a pool before its search goes on elsewhere.
func (l *borrowed) leave(pool *snat.Pool) { l.left, l.at = pool, pool.Position }

// restore makes the pool have the position that it had before the dry run.
func (l *borrowed) restore() {
	if l.left != nil {
		l.left.Rewind(l.at)
	}
}

// dryRunConnections is the capacity for a connection and its template, before and after.
const dryRunConnections = 4

// NewDryRun makes a DryRun for one worker of several. It reads the current loads. Any goroutine may
// call it.
func NewDryRun(worker, workers int, seed *flow.Seed, t *Tables, loads *counter.Loads) *DryRun {
	before, own := counter.NewLoads(workers, len(t.Backends)), counter.NewLoads(workers, len(t.Backends))
	for id := 1; id < len(t.Backends); id++ {
		l := loads.Of(uint32(id))
		before.Add(worker, uint32(id), int32(l.Active), int32(l.Inactive))
		own.Add(worker, uint32(id), int32(l.Active), int32(l.Inactive))
		own.SetFull(uint32(id), loads.Full(uint32(id)))
	}
	r := &DryRun{Loads: before, b: new(Batch)}
	r.p = &Processor{
		Counted:   newCounted(len(t.Backends), len(t.Services)),
		templates: make([]uint32, len(t.Backends)), sched: make([]sched.State, len(t.Services)),
		worker: worker, workers: workers, seed: seed, loads: own, turns: counter.NewTurns(1, len(t.Services)), t: t, observing: true,
	}
	mem := func(family int) []byte { return aligned(conn.Bytes(family, dryRunConnections)) }
	r.p.rstProbes.visit = r.p.rstProbeConn
	capacity := counter.NewCapacity(1, dryRunConnections)
	r.p.share, r.p.tally = capacity.NewShare(), capacity.NewTally(len(t.Services))
	r.p.unproven, r.p.ended = newDisposables(dryRunConnections), newDisposables(dryRunConnections)
	r.p.v4 = conn.New(4, dryRunConnections, mem(4), r.p.share, seed, r.p.expired)
	r.p.v6 = conn.New(6, dryRunConnections, mem(6), r.p.share, seed, r.p.expired)
	return r
}

// DryRun processes the frame in r; the memory of the frame is overwritten. r must have been made
// for t and for this worker. Only the owning goroutine may call it. It takes about ten
// microseconds.
func (p *Processor) DryRun(r *DryRun, f Frame, t *Tables, nowMs uint32) {
	f.Hops = finalHop
	r.Before = p.Observe(f, t, nowMs)
	q := r.p
	q.neighbourHints, q.answers, q.ipID, q.sourceTurn = p.neighbourHints, p.answers, p.ipID, p.sourceTurn
	q.adoptions, q.adoptPerSecond, q.marks = p.adoptions, p.adoptPerSecond, p.marks
	q.fragments, q.fragmentID = p.fragments, p.fragmentID
	q.borrowed, q.ports = &borrowed{from: p}, p.ports
	id := r.Before.Service
	if r.Before.Known {
		id = r.Before.Conn.Service()
		p.lendConn(q, &r.Before, nowMs)
	}
	q.sched[id], r.Sched = p.sched[id], p.sched[id]
	r.Sched.Turn = p.turns.Of(id)
	q.turns.Advance(id, q.turns.Of(id), r.Sched.Turn)
	q.turns.CopyWindow(id, p.turns)
	r.Full = !p.tally.Admits(id, t.Services[id].Unproven) || p.share.Free == 0 && p.share.Used() >= counter.Whole
	if p.tally.Pressed(id, nowMs) {
		q.tally.Press(id, nowMs)
	}
	p.lendTemplate(r, &r.Before, id, nowMs)

	r.b.Frames[0] = f
	q.Process(r.b, 1, t, nowMs)
	r.Frame = r.b.Frames[0]
	r.Picked = q.schedKey != (sched.Key{})
	r.After = r.Before
	q.Refresh(&r.After, nowMs)
	q.borrowed.restore()
}

// lendConn copies the observed connection to the dry run, with what its replies are found by.
func (p *Processor) lendConn(q *Processor, s *Observation, nowMs uint32) {
	to, c := q.table(&s.Meta), &s.Conn
	backend := p.t.Backends[c.Backend].Addr
	mine := to.InsertCopy(to.Home(p.seed.Hash(s.Client, c.ClientPort(), c.Proto())), c, s.Client, backend, nowMs)
	if mine == nil || c.Flags&conn.Translated == 0 {
		return
	}
	for _, ref := range p.t.Pools[c.Backend] {
		if ref.Source == c.Source {
			q.borrowed.copied = portBinding{ref.Pools[p.worker], c.Extra, to.Slot(mine)}
		}
	}
}

// lendTemplate copies the client's persistence template, if the service has persistence.
func (p *Processor) lendTemplate(r *DryRun, s *Observation, id uint32, nowMs uint32) {
	if s.Class != ToService || p.t.Services[id].PersistMs == 0 {
		return
	}
	m, from, to := &s.Meta, p.table(&s.Meta), r.p.table(&s.Meta)
	vipPort := m.DstPort
	if !p.t.Services[id].Ports.Single() {
		vipPort = 0
	}
	hash := p.seed.Hash(m.Src, 0, m.Proto)
	if tp := from.Peek(from.Home(hash), m.Src, conn.TemplateKey(id, vipPort), nowMs); tp != nil {
		r.Bound, r.Template = true, *tp
		to.InsertCopy(to.Home(hash), tp, m.Src, packet.Addr{}, nowMs)
	}
}

// Limit returns the limit that a new connection would exceed.
func (r *DryRun) Limit() (l counter.Limit, exceeded bool) {
	for i, n := range r.p.Services[r.Before.Service].Limited {
		if n > 0 {
			return counter.Limit(i), true
		}
	}
	return l, false
}

// Key returns what the scheduler was called with, if Picked.
func (r *DryRun) Key() *sched.Key { return &r.p.schedKey }

// aligned returns n zeroed bytes that begin at a cache line.
func aligned(n int) []byte {
	// Go aligns objects of a page and more to pages.
	return make([]byte, max(n, 1<<13))[:n]
}
