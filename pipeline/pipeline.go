// Package pipeline decides what happens to each frame: it parses the headers, finds the connection,
// picks a backend for a new one and rewrites the frame in place.
//
// A batch goes through each stage as a whole:
//
//	classify   headers to Meta, or a named drop; service, direction, owner
//	fetch      the cache lines of the connections, all at once
//	flows      connection found or opened, TCP state changed, frame rewritten, egress port chosen
//
// Nearly all frames take the fast path through these stages (fastpath.go); all others take the slow
// path (slowpath.go), which handles everything.
//
//	ownership.go   which worker owns a flow, and hand-over to it
//	connection.go  opening, state, expiry, persistence
//	limits.go      limits on new connections
//	access.go      clients that may not open connections (package access)
//	pressure.go    how new connections get entries of a table that fills
//	first_packets.go  first packets of flows, where a hash names the backend and they need no entry
//	adopt.go       segments of connections that no worker has, where a hash names the backend
//	fullnat.go     SNAT ports of fullnat connections (package snat)
//	refused_syn.go SYNs that a backend refuses because it has another connection from the port
//	fragments.go   fragments of packets (package fragment)
//	eviction.go    connections of evicted backends; idle.go: of those idle beyond their timeout;
//	               rst_probe.go for silent ends of both
//	misplaced.go   connections of a former process that are at another worker than their packets
//	doubt.go       RST, FIN and SYN that may be forged
//	tokernel.go    packets that backends send of their own accord
//	answer.go      RST and ICMP answers; icmp.go: ICMP errors about forwarded packets
//	inspect.go     what the pipeline knows of a frame; dryrun.go: what it would do with it
//	tables.go      what the control plane publishes
//
// The package is pure: time, tables and memory are arguments, verdicts are results in the frames.
// It knows nothing of sockets, rings or threads. A Processor allocates only when it is made.
package pipeline

import (
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/flow"
	"sluice/pipeline/fragment"
	"sluice/pipeline/packet"
	"sluice/pipeline/sched"
	"sluice/pipeline/snat"
)

// Processor is the pipeline of one worker, with everything that the worker writes: connections,
// scheduler positions, counters. It belongs to one goroutine.
type Processor struct {
	Counted
	Full              counter.Prefixes  // of new connections that found no free entry or SNAT port
	First             counter.Prefixes  // of a sample of counter.Service.First
	NeighbourRequests NeighbourRequests // next hops without a known MAC address

	worker, workers int
	seed            *flow.Seed
	v4, v6          *conn.Table
	share           *counter.Share // of both tables
	ports           *snat.Memory
	tally           *counter.Tally
	unproven, ended disposables
	displacedInUse  uint64 // see mayBeInUse
	loads           *counter.Loads
	turns           *counter.Turns
	templates       []uint32      // by backend id: persistence templates
	sched           []sched.State // by service id; the turns are copies
	// schedKey: scratch: passed through an interface, a local variable would be allocated
	schedKey       sched.Key
	borrowed       *borrowed // of a dry run; else nil
	sourceTurn     uint32
	neighbourHints neighbourHints
	answers        counter.Limiter
	adoptions      counter.Limiter
	marks          marks
	adoptPerSecond uint32 // of this worker
	rstProbes      rstProbes
	idleResets     idleResets
	doubts         probeQueue // connections with the flag conn.Doubted
	misplaced      *Misplaced // shared by all workers; nil: none
	syns           synCopies
	ipID           uint16
	fragments      *fragment.Store
	fragmentID     uint32    // the latest of those that this worker gave
	observing      bool      // Observe, or a dry run: what fragments leave does not change
	sweepDebt      [2]uint64 // per table, what the sweep is behind: slots times sweepRoundMs
	// openings: frames of the batch that classifyFast leaves to fastOpen4 or fastOpen6
	openings int
	// fullMs is the last time at which no connection could be removed for a new one: see admit
	fullMs uint32

	t       *Tables // of the batch being processed
	fetched uint64  // see conn.Fetch

	now uint32 // milliseconds, of the batch being processed
}

// Counted is what a Processor counts.
type Counted struct {
	Packets  *counter.Packets
	Backends []counter.Backend // by backend id
	Services []counter.Service // by service id
}

func newCounted(backends, services int) Counted {
	return Counted{new(counter.Packets), make([]counter.Backend, backends), make([]counter.Service, services)}
}

// Options are the arguments of New.
type Options struct {
	Worker, Workers int
	Capacity        *counter.Capacity // shared by all workers, and so are:
	Seed            *flow.Seed
	Loads           *counter.Loads
	Turns           *counter.Turns
	Mem4, Mem6      []byte // TableBytes(4|6, ...) zeroed bytes each, for this worker alone
	AdoptPerSecond  int    // connections that all workers together may adopt per second
	// Fragments is how many fragments may wait for the first one of their packet, a power of two;
	// 0: few
	Fragments int
	// Counted is where to count, for this worker alone, with an element for each id that Loads and
	// Turns have room for. Zero: it is allocated.
	Counted Counted
	// Ports is the memory of SNAT pools, for this worker alone; nil: it is allocated when it is
	// needed
	Ports *snat.Memory
	// Misplaced is shared by all workers, too; nil: no worker has connections of another
	Misplaced *Misplaced
}

// New makes a Processor for the ids that Loads and Turns have room for. It allocates 44 bytes for
// each backend id, 112 for each service id and 704 KiB, besides Mem4 and Mem6.
func New(o Options) *Processor {
	p := &Processor{
		Counted: o.Counted,
		worker:  o.Worker, workers: o.Workers,
		seed:  o.Seed,
		loads: o.Loads, turns: o.Turns, templates: make([]uint32, o.Loads.Len()),
		sched: make([]sched.State, o.Turns.Len()),
		ports: o.Ports, misplaced: o.Misplaced,
	}
	if p.Packets == nil {
		p.Counted = newCounted(o.Loads.Len(), o.Turns.Len())
	}
	if p.ports == nil {
		p.ports = snat.NewMemory(true)
	}
	for id := range p.sched {
		p.sched[id].Rand = p.seed.Hash(packet.Addr{Hi: uint64(o.Worker), Lo: uint64(id)}, 0, 0)
	}
	p.adoptPerSecond = uint32((o.AdoptPerSecond + o.Workers - 1) / o.Workers)
	p.rstProbes.visit = p.rstProbeConn
	p.idleResets.probeQueue = newProbeQueue(rstProbeRounds, idleResetsMost)
	p.doubts = newProbeQueue(doubtRounds, doubtsMost)
	p.syns = newSYNCopies()
	p.share, p.tally = o.Capacity.NewShare(), o.Capacity.NewTally(o.Turns.Len())
	p.fullMs = ^p.now // not yet
	p.unproven, p.ended = newDisposables(o.Capacity.Even()), newDisposables(o.Capacity.Even())
	p.marks = newMarks()
	p.newFragments(o.Fragments)
	p.v4 = conn.New(4, o.Capacity.Even(), o.Mem4, p.share, o.Seed, p.expired)
	p.v6 = conn.New(6, o.Capacity.Even(), o.Mem6, p.share, o.Seed, p.expired)
	return p
}

// Process sets the verdict of each of b.Frames[:n], with n at most MaxBatch. nowMs is a count of
// milliseconds that wraps and never goes back. Only the owning goroutine may call it.
//
// noinline: Process and the stages are one call per batch. Inlined into one function, they would
// exceed the budget for inlining the calls that are made for every packet.
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

// touch loads the first bytes of the headers, so that the cache misses of the batch overlap:
// another CPU or a NIC wrote them.
func (p *Processor) touch(frames []Frame) {
	sum := uint64(0)
	for i := range frames {
		if f := &frames[i]; uint(f.Start) < uint(len(f.Mem)) {
			sum += uint64(f.Mem[f.Start])
		}
	}
	p.fetched += sum
}

// classify sets the kind, service and home of each frame. It drops frames that cannot be parsed and
// hands over frames of flows that another worker owns.
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

// cached6 is the number of IPv6 entries that fit a cache of 2 MiB, the L2 cache of a CPU.
const cached6 = 1 << 15

// fetch loads the cache lines of the connections, so that the misses of the batch overlap.
func (p *Processor) fetch(frames []Frame) {
	if p.openings > 0 && p.t.guarded {
		p.denyOpenings(frames)
	}
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

// table returns the connection table of the packet's family, which is the family of the client.
func (p *Processor) table(m *packet.Meta) *conn.Table {
	if m.Family == 4 {
		return p.v4
	}
	return p.v6
}

// flows forwards, answers or drops each frame and counts it once.
//
//go:noinline
func (p *Processor) flows(frames []Frame) {
	c := p.Packets
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
			if f.kind != kindDone {
				p.fallback(f)
			}
			p.slowPath(f)
			continue
		}
		if c.Forwarded++; f.Hops > 0 {
			c.HandedIn++
		}
	}
	c.Rx += uint64(len(frames)) - (c.HandedIn - handedIn)
}

// count counts a frame by its verdict, and as handed in if another worker handed it over.
func (p *Processor) count(f *Frame) {
	c := p.Packets
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
	case ToKernel:
		c.ToKernel++
	case Hold:
		c.Waiting++
	default:
		c.Drops[f.Reason]++
		if f.Reason == counter.TableFull || f.Reason == counter.SNATExhausted {
			p.refused(f)
		}
	}
}

// TableBytes returns the size of Mem4 (family 4) or Mem6 (family 6) of Options, in bytes, for that
// many workers with that many connections together.
func TableBytes(family, workers, connections int) int {
	return conn.Bytes(family, counter.NewCapacity(workers, connections).Even())
}
