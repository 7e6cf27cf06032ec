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
	key             sched.Key     // scratch: behind an interface, a local one would be allocated
	pools           []*snat.Pool  // by number
	lent            *lent         // of a rehearsal; else nil
	sourceTurn      uint32
	heard           heard
	replies         limiter
	poke            pokes
	ipID            uint16
	owed            [2]uint64 // to each table's sweep: slots times sweepRoundMs
	opening         int       // frames of the batch that open4 or open6 is to see

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
//
// It and the stages stay calls, one per batch: what they were inlined into would be too big for the
// compiler to inline more into it.
//
//go:noinline
func (p *Processor) Process(b *Batch, n int, t *Tables, nowMs uint32) {
	if p.now = nowMs; p.t != t {
		p.adopt(t)
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
		if !p.board(f) {
			p.sort(f)
		}
	}
}

// sort is classify for a frame that can't take the express lane.
//
//go:noinline
func (p *Processor) sort(f *Frame) {
	m := &f.meta
	f.home = 0
	if reason := packet.Parse(f.Mem, f.Start, f.End, m); reason != counter.None {
		f.drop(reason)
		return
	}
	id := p.t.Service(m.Dst, m.DstPort, m.Proto)
	if id == 0 || m.ICMPError {
		p.otherWay(f)
		return
	}
	f.kind, f.service = kindForward, id
	p.place(f, m.Src, m.SrcPort, id)
}

// place finds the home of a frame whose client has this address and port, or gives the frame to the
// worker that owns the flow. The service is 0 if a backend sent the frame.
func (p *Processor) place(f *Frame, client packet.Addr, port uint16, service uint32) {
	m := &f.meta
	hash := p.seed.Hash(client, port, m.Proto)
	if p.workers > 1 && f.Hops == 0 && !p.isMine(hash, service) && p.handOver(f, hash, client, service) {
		return
	}
	f.home = p.table(m).Home(hash)
}

// isMine says that the worker has a client's flow for sure: what handOver would find out, but
// cheaper, for nearly all.
func (p *Processor) isMine(hash uint64, service uint32) bool {
	own := p.t.Services[service].Ownership
	return service != 0 && (own == ByReceiver || own == ByFlow && flow.Owner(hash, p.workers) == p.worker)
}

// otherWay is the rest of sort for a frame that is no client's to a service.
//
//go:noinline
func (p *Processor) otherWay(f *Frame) {
	m := &f.meta
	if !m.ICMPError {
		f.kind = kindReply
		p.place(f, m.Dst, m.DstPort, 0)
		return
	}
	if id := p.t.Service(m.Src, m.SrcPort, m.Proto); id != 0 {
		f.kind, f.service = kindICMPIn, id
		p.place(f, m.Dst, m.DstPort, id)
		return
	}
	f.kind = kindICMPOut
	p.place(f, m.Src, m.SrcPort, 0)
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
	if p.opening > 0 && v4.Len()+v6.Len() > cached6 {
		for i := range frames {
			if k := frames[i].kind; k == kindOpen4 || k == kindOpen6 {
				sum += conn.FetchForInsert(v4, v6, frames[i].home)
			}
		}
	}
	p.opening = 0
	p.fetched += sum
}

// handOver gives a fresh frame to its owner if that is somebody else. A frame that was handed over
// already is processed where it is, so that two workers with different tables can't pass it back
// and forth.
func (p *Processor) handOver(f *Frame, hash uint64, client packet.Addr, service uint32) bool {
	var own Ownership
	if service != 0 {
		own = p.t.Services[service].Ownership
	} else {
		own = p.replyOwner(f)
	}
	switch own {
	case ByReceiver, ByFlowNow:
		return false
	case ByAddress:
		hash = p.seed.Hash(client, 0, f.meta.Proto)
	}
	owner := flow.Owner(hash, p.workers)
	if own == ByPort {
		_, _, _, port := f.backendFirst()
		owner = int(port) % p.workers
	}
	if owner == p.worker {
		return false
	}
	p.handTo(f, owner)
	return true
}

// replyOwner says who owns the connection of a packet from a backend, or of the packet to a backend
// that an ICMP error embeds.
func (p *Processor) replyOwner(f *Frame) Ownership {
	backend, port, client, _ := f.backendFirst()
	switch {
	case p.t.isSource(client) && !p.t.shared:
		return ByPort
	case p.t.isSource(client):
		return ByReceiver // most likely; else see passToPortOwner
	case p.t.sticksToAddress(backend, port, f.meta.Proto):
		return ByAddress
	}
	return ByFlow
}

// backendFirst gives the ends of a reply, or of the packet that an ICMP error to a client embeds:
// the backend's, and the one that the backend takes for its client's.
func (f *Frame) backendFirst() (backend packet.Addr, port uint16, client packet.Addr, clientPort uint16) {
	m := &f.meta
	if f.kind == kindICMPOut {
		return m.Dst, m.DstPort, m.Src, m.SrcPort
	}
	return m.Src, m.SrcPort, m.Dst, m.DstPort
}

// passToFlowOwner hands a client's fresh frame, or an ICMP error to its client, to the worker that
// owns its flow by the client's hash.
func (p *Processor) passToFlowOwner(f *Frame, client packet.Addr, port uint16) bool {
	owner := flow.Owner(p.seed.Hash(client, port, f.meta.Proto), p.workers)
	if f.Hops > 0 || owner == p.worker {
		return false
	}
	p.handTo(f, owner)
	return true
}

func (p *Processor) handTo(f *Frame, worker int) {
	f.Verdict, f.Worker = HandOver, uint8(worker)
	f.Hops++
	f.kind = kindDone
}

// elsewhere hands a frame whose flow isn't known here to the next worker, if its service's flows
// may be there: flows that the receiver owns, for the card may deliver an ICMP error, or everything
// after its queues were rearranged, to another worker than the one that opened the connection; and
// flows from before their service was owned otherwise.
func (p *Processor) elsewhere(f *Frame, s *Service) bool {
	switch {
	case s.Moved:
		return p.passRound(f, p.workers) // the owner is asked first, whoever received it later
	case s.Ownership == ByReceiver:
		return p.passRound(f, p.workers-1)
	}
	return false
}

// passRound hands a frame to the next worker, unless so many had a hand in it already.
func (p *Processor) passRound(f *Frame, most int) bool {
	if p.workers == 1 || int(f.Hops) >= most {
		return false
	}
	p.handTo(f, (p.worker+1)%p.workers)
	return true
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
		case kindExpress4:
			done = p.express4(f)
		case kindBack4:
			done = p.back4(f)
		case kindOpen4:
			done = p.open4(f)
		case kindExpress6:
			done = p.express6(f)
		case kindOpen6:
			done = p.open6(f)
		case kindBack6:
			done = p.back6(f)
		default:
			p.travel(f)
			continue
		}
		if !done {
			p.leave(f)
			p.travel(f)
			continue
		}
		if c.Forwarded++; f.Hops > 0 {
			c.HandedIn++
		}
	}
	c.Rx += uint64(len(frames)) - (c.HandedIn - handedIn)
}

// travel takes a frame the way that sort has found, and books it by its verdict.
//
//go:noinline
func (p *Processor) travel(f *Frame) {
	switch f.kind {
	case kindForward:
		p.forward(f)
	case kindReply:
		p.reply(f)
	case kindICMPIn:
		p.icmpIn(f)
	case kindICMPOut:
		p.icmpOut(f)
	}
	p.count(f)
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
