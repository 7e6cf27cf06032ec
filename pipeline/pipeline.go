// Package pipeline decides what becomes of frames: it parses them, finds their connection, picks a
// backend for new ones and rewrites them in place.
//
// A batch goes through each stage as a whole:
//
//	parse      headers to Meta, or a drop by name
//	classify   which service, which direction, whose flow; fetches the connection's cache line
//	flow       connection found or opened, TCP state moved, frame rewritten, egress chosen
//
// The package is pure: time, tables and memory come in as arguments, verdicts go out in the frames. It
// knows nothing of sockets, rings or threads. Nothing here allocates once a Processor is made.
package pipeline

import (
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/flow"
	"sluice/pipeline/packet"
	"sluice/pipeline/sched"
)

// Processor is one worker's pipeline with everything that the worker writes: connections, scheduler
// positions, counters. One goroutine uses it.
type Processor struct {
	Packets  counter.Packets
	Backends []counter.Backend // by backend id
	Wanted   Wanted            // next hops whose MAC address was missing

	worker, workers int
	seed            *flow.Seed
	v4, v6          *conn.Table
	loads           *counter.Loads
	sched           []sched.State // by service id
	key             sched.Key     // scratch: behind an interface, a local one would be allocated
	pools           []*portPool   // by number
	sourceTurn      uint32
	heard           heard
	replies         limiter
	poke            pokes
	ipID            uint16

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
	p.poke.visit = p.pokeConn
	p.v4 = conn.New(4, o.Connections, o.Mem4, o.Seed, p.expired)
	p.v6 = conn.New(6, o.Connections, o.Mem6, o.Seed, p.expired)
	return p
}

// Process decides what becomes of b.Frames[:n], n at most MaxBatch. nowMs is a wrapping count of
// milliseconds that never goes back.
func (p *Processor) Process(b *Batch, n int, t *Tables, nowMs uint32) {
	if p.now = nowMs; p.t != t {
		p.adopt(t)
	}
	p.parse(b, n)
	p.classify(b, n)
	p.fetched = conn.Fetch(p.v4, p.v6, b.home[:n])
	p.flows(b, n)
	p.count(b, n)
}

func (p *Processor) parse(b *Batch, n int) {
	for i := range b.Frames[:n] {
		f := &b.Frames[i]
		f.Reason = packet.Parse(f.Mem, f.Start, f.End, &b.meta[i])
	}
}

// classify finds out for every frame which way it takes and whose flow it is. Frames of flows that
// another worker owns are done here.
func (p *Processor) classify(b *Batch, n int) {
	for i := range b.Frames[:n] {
		f, m := &b.Frames[i], &b.meta[i]
		b.home[i] = 0
		if f.Reason != counter.None {
			b.drop(i, f.Reason)
			continue
		}
		client, port := m.Src, m.SrcPort
		var own Ownership
		id := p.t.vips.get(m.Dst, m.DstPort, m.Proto) // Service written out: a call would cost as much again
		if !single(id) {
			id = p.t.ranged(m.Dst, m.DstPort, m.Proto)
		}
		if id != 0 && !m.ICMPError {
			b.kind[i], b.service[i] = kindForward, id
			own = p.t.Services[id].Own
		} else {
			client, port, own = p.otherWay(b, i, m)
		}
		hash := p.seed.Hash(client, port, m.Proto)
		if p.workers > 1 && f.Hops == 0 && p.handOver(b, i, hash, client, own) {
			continue
		}
		b.home[i] = p.table(m).Home(hash)
	}
}

// otherWay sets kind and service of a frame that is no client's to a service, and says who its client is.
func (p *Processor) otherWay(b *Batch, i int, m *packet.Meta) (client packet.Addr, port uint16, own Ownership) {
	if !m.ICMPError {
		b.kind[i] = kindReply
		return m.Dst, m.DstPort, p.replyOwner(m.Src, m.SrcPort, m.Dst, m.Proto)
	}
	if id := p.t.Service(m.Src, m.SrcPort, m.Proto); id != 0 {
		b.kind[i], b.service[i] = kindICMPIn, id
		return m.Dst, m.DstPort, p.t.Services[id].Own
	}
	b.kind[i] = kindICMPOut
	return m.Src, m.SrcPort, p.replyOwner(m.Dst, m.DstPort, m.Src, m.Proto)
}

// replyOwner says who owns the connection of a packet from a backend to whom it takes for its client.
func (p *Processor) replyOwner(backend packet.Addr, port uint16, client packet.Addr, proto uint8) Ownership {
	switch {
	case p.workers == 1:
		return ByFlow
	case p.t.isSource(client) && p.t.sharings.len == 0:
		return ByPort
	case p.t.isSource(client):
		return ByReceiver // most likely; else see passToPortOwner
	case p.t.sticksToAddress(backend, port, proto):
		return ByAddress
	}
	return ByFlow
}

// handOver gives a fresh frame to its owner if that is somebody else. A frame that was handed over already
// is processed where it is, so that two workers with different tables can't pass it back and forth.
func (p *Processor) handOver(b *Batch, i int, hash uint64, client packet.Addr, own Ownership) bool {
	switch own {
	case ByReceiver, ByFlowNow:
		return false
	case ByAddress:
		hash = p.seed.Hash(client, 0, b.meta[i].Proto)
	}
	owner := flow.Owner(hash, p.workers)
	if own == ByPort {
		owner = int(b.localPort(i)) % p.workers
	}
	if owner == p.worker {
		return false
	}
	p.handTo(b, i, owner)
	return true
}

// localPort is the port at the client's end of a packet from a backend, or of the packet that an ICMP
// error embeds.
func (b *Batch) localPort(i int) uint16 {
	if b.kind[i] == kindICMPOut {
		return b.meta[i].SrcPort
	}
	return b.meta[i].DstPort
}

// passToFlowOwner hands a client's fresh frame, or an ICMP error to its client, to the worker that owns its flow by
// the client's hash.
func (p *Processor) passToFlowOwner(b *Batch, i int, client packet.Addr, port uint16) bool {
	owner := flow.Owner(p.seed.Hash(client, port, b.meta[i].Proto), p.workers)
	if b.Frames[i].Hops > 0 || owner == p.worker {
		return false
	}
	p.handTo(b, i, owner)
	return true
}

func (p *Processor) handTo(b *Batch, i int, worker int) {
	f := &b.Frames[i]
	f.Verdict, f.Worker = HandOver, uint8(worker)
	f.Hops++
	b.kind[i] = kindDone
}

// elsewhere hands a frame whose flow isn't known here to the next worker, if its service's flows may be there:
// flows that the receiver owns, for the card may deliver an ICMP error, or everything after its queues were
// rearranged, to another worker than the one that opened the connection; and flows from before their service
// was owned otherwise.
func (p *Processor) elsewhere(b *Batch, i int, s *Service) bool {
	switch {
	case s.Moved:
		return p.passRound(b, i, p.workers) // the owner is asked first, whoever received it later
	case s.Own == ByReceiver:
		return p.passRound(b, i, p.workers-1)
	}
	return false
}

// passRound hands a frame to the next worker, unless so many had a hand in it already.
func (p *Processor) passRound(b *Batch, i, most int) bool {
	if p.workers == 1 || int(b.Frames[i].Hops) >= most {
		return false
	}
	p.handTo(b, i, (p.worker+1)%p.workers)
	return true
}

// table gives the connection table of the packet's family, which is its client's too.
func (p *Processor) table(m *packet.Meta) *conn.Table {
	if m.Family == 4 {
		return p.v4
	}
	return p.v6
}

func (p *Processor) flows(b *Batch, n int) {
	for i := 0; i < n; i++ {
		switch b.kind[i] {
		case kindForward:
			p.forward(b, i)
		case kindReply:
			p.reply(b, i)
		case kindICMPIn:
			p.icmpIn(b, i)
		case kindICMPOut:
			p.icmpOut(b, i)
		}
	}
}

// count books every frame exactly once: fresh ones as received, all by their verdict.
func (p *Processor) count(b *Batch, n int) {
	c := &p.Packets
	for i := range b.Frames[:n] {
		f := &b.Frames[i]
		handedOn := f.Verdict == HandOver
		if f.Hops == 0 || handedOn && f.Hops == 1 {
			c.Rx++
		} else {
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
}

// TableBytes says how much memory Options needs for a table of a family (4 or 6).
func TableBytes(family, connections int) int { return conn.Bytes(family, connections) }
