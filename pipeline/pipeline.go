// Package pipeline decides what becomes of frames: it parses them, finds their connection, picks a
// backend for new ones and rewrites them in place.
//
// A batch goes through each stage as a whole:
//
//	classify   headers to Meta, or a drop by name; which service, which direction, whose flow
//	fetch      the connections' cache lines, all at once
//	flows      connection found or opened, TCP state moved, frame rewritten, egress chosen
//
// Nearly all frames take the express lane through these stages: see express.go.
//
// The package is pure: time, tables and memory come in as arguments, verdicts go out in the frames.
// It knows nothing of sockets, rings or threads. Nothing here allocates once a Processor is made.
package pipeline

import (
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/flow"
	"sluice/pipeline/packet"
	"sluice/pipeline/sched"
	"sluice/pipeline/snat"
)

// Processor is one worker's pipeline with everything that the worker writes: connections, scheduler
// positions, counters. One goroutine uses it.
type Processor struct {
	Packets           counter.Packets
	Backends          []counter.Backend // by backend id
	NeighbourRequests NeighbourRequests // next hops whose MAC address was missing

	worker, workers int
	seed            *flow.Seed
	v4, v6          *conn.Table
	loads           *counter.Loads
	sched           []sched.State // by service id
	schedKey        sched.Key     // scratch: behind an interface, a local one would be allocated
	pools           []*snat.Pool  // by number
	borrowed        *borrowed     // of a rehearsal; else nil
	sourceTurn      uint32
	neighbourHints  neighbourHints
	answers         limiter
	rstProbes       rstProbes
	ipID            uint16
	sweepDebt       [2]uint64 // to each table's sweep: slots times sweepRoundMs
	openings        int       // frames of the batch that open4 or open6 is to see

	t       *Tables // of the batch being processed
	fetched uint64  // see conn.Fetch

	now uint32 // ms tick of the batch being processed
}

// Options says what a Processor is made for.
type Options struct {
	Worker, Workers int
	Connections     int        // capacity of each family's table at this worker
	Seed            *flow.Seed // shared by all workers
	Loads           *counter.Loads
	Mem4, Mem6      []byte // conn.Bytes(4|6, Connections) zeroed bytes each, for this worker alone
}

// New makes a Processor.
func New(o Options) *Processor {
	p := &Processor{
		Backends: make([]counter.Backend, MaxBackends),
		worker:   o.Worker, workers: o.Workers,
		seed:  o.Seed,
		loads: o.Loads,
		sched: make([]sched.State, MaxServices),
	}
	for id := range p.sched {
		p.sched[id].Rand = p.seed.Hash(packet.Addr{Hi: uint64(o.Worker), Lo: uint64(id)}, 0, 0)
	}
	p.rstProbes.visit = p.rstProbeConn
	p.v4 = conn.New(4, o.Connections, o.Mem4, o.Seed, p.expired)
	p.v6 = conn.New(6, o.Connections, o.Mem6, o.Seed, p.expired)
	return p
}

// Process decides what becomes of b.Frames[:n], n at most MaxBatch. nowMs is a wrapping count of
// milliseconds that never goes back.
//
// It and the stages stay calls, one per batch: what they were inlined into would be too big for the
// compiler to inline more into it.
//
//go:noinline
func (p *Processor) Process(b *Batch, n int, t *Tables, nowMs uint32) {
	if p.now = nowMs; p.t != t {
		p.useTables(t)
	}
	frames := b.Frames[:n]
	p.touch(frames)
	p.classify(frames)
	p.fetch(frames)
	p.flows(frames)
}

// touch brings the frames' headers into the processor's cache: whoever wrote them was another
// processor, or a card.
func (p *Processor) touch(frames []Frame) {
	sum := uint64(0)
	for i := range frames {
		if f := &frames[i]; uint(f.Start) < uint(len(f.Mem)) {
			sum += uint64(f.Mem[f.Start])
		}
	}
	p.fetched += sum
}

// classify finds out for every frame what it is, which way it takes and whose flow it is. Frames
// that can't be read and frames of flows that another worker owns are done here.
//
//go:noinline
func (p *Processor) classify(frames []Frame) {
	for i := range frames {
		f := &frames[i]
		if !p.classifyFast(f) {
			p.classifySlow(f)
		}
	}
}

// cached6 is how many IPv6 entries fit a processor's own cache: 2 MiB.
const cached6 = 1 << 15

// fetch brings what the flows' connections lie in into the processor's cache.
func (p *Processor) fetch(frames []Frame) {
	v4, v6, sum := p.v4, p.v6, uint64(0)
	for i := range frames {
		sum += conn.Fetch(v4, v6, frames[i].home)
	}
	if v6.Len() > cached6 {
		for i := range frames {
			sum += conn.FetchNext(v4, v6, frames[i].home)
		}
	}
	if p.openings > 0 && v4.Len()+v6.Len() > cached6 {
		for i := range frames {
			if k := frames[i].kind; k == kindFastOpen4 || k == kindFastOpen6 {
				sum += conn.FetchForInsert(v4, v6, frames[i].home)
			}
		}
	}
	p.openings = 0
	p.fetched += sum
}

// table gives the connection table of the packet's family, which is its client's too.
func (p *Processor) table(m *packet.Meta) *conn.Table {
	if m.Family == 4 {
		return p.v4
	}
	return p.v6
}

// flows finds or opens the flow of every frame and does what its mode asks. Every frame is booked
// once.
//
//go:noinline
func (p *Processor) flows(frames []Frame) {
	c := &p.Packets
	handedIn := c.HandedIn
	for i := range frames {
		f := &frames[i]
		done := false
		switch f.kind {
		case kindFastForward4:
			done = p.fastForward4(f)
		case kindFastReply4:
			done = p.fastReply4(f)
		case kindFastOpen4:
			done = p.fastOpen4(f)
		case kindFastForward6:
			done = p.fastForward6(f)
		case kindFastOpen6:
			done = p.fastOpen6(f)
		case kindFastReply6:
			done = p.fastReply6(f)
		default:
			p.slowPath(f)
			continue
		}
		if !done {
			p.fallback(f)
			p.slowPath(f)
			continue
		}
		if c.Forwarded++; f.Hops > 0 {
			c.HandedIn++
		}
	}
	c.Rx += uint64(len(frames)) - (c.HandedIn - handedIn)
}

// count books a frame by its verdict, and as handed in if it was.
func (p *Processor) count(f *Frame) {
	c := &p.Packets
	if f.Hops > 0 && (f.Verdict != HandOver || f.Hops > 1) {
		c.HandedIn++
	}
	switch f.Verdict {
	case Forward:
		c.Forwarded++
	case Reply:
		c.Replied++
	case HandOver:
		c.HandedOut++
	default:
		c.Drops[f.Reason]++
	}
}

// TableBytes says how much memory Options needs for a table of a family (4 or 6).
func TableBytes(family, connections int) int { return conn.Bytes(family, connections) }
