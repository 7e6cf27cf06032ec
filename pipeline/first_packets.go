package pipeline

import (
	"sluice/pipeline/conn"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
)

// Where a hash names the backend (Service.Adopt), the first packet of a flow, a SYN or datagram,
// needs no entry: it is forwarded untracked, and leaves a mark of the flow in a small filter. The
// next packet of the flow that is no SYN finds the mark and opens the entry. So a flood of first
// packets takes no entries, and neither do clients that send one datagram from each port.
//
// A first packet takes an entry nevertheless if the service has persistence or limits, which count
// entries, and if the hash from before a change (Service.Earlier) does not name the same backend as
// the present one: the second packet would go to the former one, or nowhere after another change.
//
// After a change that ends all this, such as another scheduler, the packets of marked flows go on
// to the backend that the hash named before, and open entries there.
//
// The filter is exact enough for what depends on it. A flow that has lost its mark, because others
// took its place or a minute passed, is adopted if it is TCP (adopt.go), within the limit on that,
// and goes on by the hash without an entry otherwise. A flow that has a mark by chance, one of
// 8,000, opens an entry by its first packet, which is unproven like any other (pressure.go).

// marks is a filter of flows that have sent a first packet lately: words of four 16-bit tags, the
// latest in the lowest bits. A fifth replaces the oldest.
type marks []uint64

const (
	marksLog   = 13 // log2 of the words of a worker: 64 KiB
	markLane   = 1<<48 | 1<<32 | 1<<16 | 1
	markTop    = markLane << 15
	markSpanMs = 15 // log2 of the milliseconds in which tags are equal
)

func newMarks() marks { return make(marks, 1<<marksLog) }

// tag returns the tag of a flow, by its hash, that is marked so many spans ago. It is never 0.
func tag(flow uint64, nowMs, ago uint32) uint64 {
	return max(uint64(uint16(flow)^uint16(nowMs>>markSpanMs-ago)), 1)
}

// has reports whether the word has the tag in one of its lanes.
func has(word, tag uint64) bool {
	x := word ^ tag*markLane
	return (x-markLane)&^x&markTop != 0
}

// has reports whether the flow was marked in this span of time or the one before: half a minute to
// a minute.
func (m marks) has(flow uint64, nowMs uint32) bool {
	word := m[flow>>(64-marksLog)]
	return has(word, tag(flow, nowMs, 0)) || has(word, tag(flow, nowMs, 1))
}

// add marks a flow.
func (m marks) add(flow uint64, nowMs uint32) {
	word, now := &m[flow>>(64-marksLog)], tag(flow, nowMs, 0)
	if !has(*word, now) {
		*word = *word<<16 | now
	}
}

// markOf returns the hash by which marks know the flow of a client.
func (p *Processor) markOf(client packet.Addr, proto uint8, k conn.Key) uint64 {
	return p.seed.Hash(client, k.ClientPort, proto) + (uint64(k.Service)<<16|uint64(k.VIPPort))*0x9e3779b97f4a7c15
}

// firstBackend returns the backend that the first packet of a flow goes to without an entry; 0: it
// needs one, or no backend takes it. marked: it is a SYN that the client has sent before; it goes
// where the former one went. The caller has called setSchedKey.
func (p *Processor) firstBackend(id uint32, s *Service, marked bool) uint32 {
	backend := uint32(0)
	if at := s.Scheduler.Pick(&p.sched[id], p.loads, &p.schedKey); at >= 0 {
		backend = s.Backends[at]
	}
	if s.Earlier == nil {
		return backend
	}
	before := p.earlier(id, s)
	if before != backend && !marked {
		return 0
	}
	return before
}

// openMarked handles a packet of a flow without an entry to a service that has marks, or had them
// before a change. opening: it is a SYN or a datagram. It forwards a first packet without an entry,
// and returns the connection that a packet of a marked flow opens. done is false if the packet is
// neither.
func (p *Processor) openMarked(f *Frame, t *conn.Table, k conn.Key, s *Service, opening bool) (c *conn.Conn, done bool) {
	m := &f.meta
	flow := p.markOf(m.Src, m.Proto, k)
	marked := p.marks.has(flow, p.now)
	switch {
	case s.marks && opening && (!marked || m.Proto == uint8(service.TCP)):
		p.setSchedKey(m.Src, m.SrcPort, m.Dst, m.DstPort)
		backend := p.firstBackend(k.Service, s, marked)
		if backend == 0 {
			return nil, false
		}
		p.markFirst(k.Service, flow, m.Src, marked)
		p.forwardUntracked(f, backend)
		return nil, true
	case !marked || m.TCPFlags&packet.RST != 0 || !opening && !opensHere(f, s):
		return nil, false
	}
	var backend uint32
	if s.marks {
		backend = p.hashed(k.Service, s, m.Src, m.SrcPort, m.Dst, m.DstPort)
	} else {
		p.setSchedKey(m.Src, m.SrcPort, m.Dst, m.DstPort)
		backend = p.earlier(k.Service, s)
	}
	if backend == 0 {
		return nil, false
	}
	return p.track(f, t, k, backend), true
}

// firstSample is the number of flows of which First counts one.
const firstSample = 16

// markFirst marks the flow with this hash by its first packet, and counts that unless the flow was
// marked before. It does nothing in a dry run, which shares the marks of the worker.
func (p *Processor) markFirst(service uint32, flow uint64, client packet.Addr, marked bool) {
	if p.borrowed != nil {
		return
	}
	if p.marks.add(flow, p.now); marked {
		return
	}
	p.refusals(service).First++
	if flow%firstSample == 0 {
		p.sampleFirst(service, client)
	}
}

// sampleFirst counts the source prefix of a first packet for all that are not in the sample.
//
//go:noinline
func (p *Processor) sampleFirst(service uint32, client packet.Addr) {
	p.First.AddMany(service, client.Prefix(), firstSample)
}

// opensHere reports whether the frame is where the first packet of its flow was. Later in its way,
// at workers that are asked for its connection, it opens none: each of its packets would go that
// way.
func opensHere(f *Frame, s *Service) bool {
	return f.Hops == 0 || f.Hops == 1 && s.Ownership != ByReceiver
}

// fastFirst4 is openMarked and forward for the fast path: for the first packet of a flow, and for
// the next one. It reports whether the frame was sent. If not, nothing has changed, or the frame is
// dropped because a list denies its client.
//
//go:noinline
func (p *Processor) fastFirst4(f *Frame) bool {
	h := f.headers()
	client4, vip, ports := h.Ends4()
	client, s := packet.AddrFrom4(client4), &p.t.Services[f.service]
	if h.TTL4() <= 1 || packet.Martian4(client4, vip) || p.t.origins.special(client) {
		return false
	}
	k, length := conn.UnpackKey(conn.PackKey(f.service, ports)), h.Length4()
	syn := f.kind == kindFastOpen4
	if syn && p.v4.Find(f.home, client, k, p.now) != nil || !syn && s.guarded && p.denied(f, client) {
		return false
	}
	flow := p.markOf(client, s.Proto, k)
	marked := p.marks.has(flow, p.now)
	if !syn && (marked || s.Proto == packet.TCP) {
		return p.tracksFast(f, s, marked) && p.fastTrack4(f, s, length, !marked)
	}
	p.setSchedKey(client, k.ClientPort, packet.AddrFrom4(vip), k.VIPPort)
	backend := p.firstBackend(f.service, s, marked)
	l := &p.t.fastEntries[backend]
	if backend == 0 || length > l.maxLength {
		return false
	}
	p.markFirst(f.service, flow, client, marked)
	p.countUntracked(f, backend)
	p.sendFast4(f, h, &conn.Conn{Backend: backend}, l, length)
	return true
}

// tracksFast reports whether a packet that is no SYN opens a connection here: the second one of a
// marked flow, or a segment to adopt, which the slow path hands on if it is another worker's.
func (p *Processor) tracksFast(f *Frame, s *Service, marked bool) bool {
	if marked {
		return s.Proto == packet.UDP || opensHere(f, s)
	}
	return p.workers == 1 || f.Hops == 0 && s.Ownership == ByFlow && !s.Moved || p.asked(f)
}

// adoptFast reports whether the limit on adoptions lets one more pass, and counts it if so.
func (p *Processor) adoptFast() bool {
	if !p.adoptions.Allow(p.now, p.adoptPerSecond, p.adoptPerSecond) {
		return false
	}
	p.Packets.Adopted++
	return true
}

// fastTrack4 is track and forward for the fast path; adopts: it is adopt. It reports whether the
// frame was sent; if not, nothing has changed.
func (p *Processor) fastTrack4(f *Frame, s *Service, length uint16, adopts bool) bool {
	h := f.headers()
	client, vip, ports := h.Ends4()
	slot, ok := p.v4.InsertSlot4(f.home, client, uint16(ports>>16), p.now)
	if !ok || !p.tally.Admits(f.service, s.Unproven) {
		return false
	}
	backend := p.hashed(f.service, s, packet.AddrFrom4(client), uint16(ports>>16), packet.AddrFrom4(vip), uint16(ports))
	l := &p.t.fastEntries[backend]
	if backend == 0 || length > l.maxLength || adopts && !p.adoptFast() {
		return false
	}
	c := p.v4.InsertAt4(f.home, slot, client, conn.PackKey(f.service, ports), p.t.Backends[backend].Addr.V4(), l.flags)
	p.beginFast(p.v4, c, backend, l, l.state, l.idleMs)
	p.refusals(f.service).Second++
	p.sendFast4(f, h, c, l, length)
	return true
}

// fastFirst6 is fastFirst4 for IPv6.
//
//go:noinline
func (p *Processor) fastFirst6(f *Frame) bool {
	h := f.headers()
	client, vip, ports := h.Ends6()
	s := &p.t.Services[f.service]
	if h.TTL6() <= 1 || packet.Martian6(client, vip) || p.t.origins.special(client) {
		return false
	}
	k, length := conn.UnpackKey(conn.PackKey(f.service, ports)), h.Length6()
	syn := f.kind == kindFastOpen6
	if syn && p.v6.Find(f.home, client, k, p.now) != nil || !syn && s.guarded && p.denied(f, client) {
		return false
	}
	flow := p.markOf(client, s.Proto, k)
	marked := p.marks.has(flow, p.now)
	if !syn && (marked || s.Proto == packet.TCP) {
		return p.tracksFast(f, s, marked) && p.fastTrack6(f, s, length, !marked)
	}
	p.setSchedKey(client, k.ClientPort, vip, k.VIPPort)
	backend := p.firstBackend(f.service, s, marked)
	l := &p.t.fastEntries[backend]
	if backend == 0 || length > l.maxLength {
		return false
	}
	p.markFirst(f.service, flow, client, marked)
	p.countUntracked(f, backend)
	p.sendFast6(f, h, &conn.Conn{Backend: backend}, l, length)
	return true
}

// fastTrack6 is fastTrack4 for IPv6.
func (p *Processor) fastTrack6(f *Frame, s *Service, length uint16, adopts bool) bool {
	h := f.headers()
	client, vip, ports := h.Ends6()
	slot, ok := p.v6.InsertSlot6(f.home, client, uint16(ports>>16), p.now)
	if !ok || !p.tally.Admits(f.service, s.Unproven) {
		return false
	}
	backend := p.hashed(f.service, s, client, uint16(ports>>16), vip, uint16(ports))
	l := &p.t.fastEntries[backend]
	if backend == 0 || length > l.maxLength || adopts && !p.adoptFast() {
		return false
	}
	c := p.v6.InsertAt6(f.home, slot, client, conn.PackKey(f.service, ports), p.t.Backends[backend].Addr, l.flags)
	p.beginFast(p.v6, c, backend, l, l.state, l.idleMs)
	p.refusals(f.service).Second++
	p.sendFast6(f, h, c, l, length)
	return true
}
