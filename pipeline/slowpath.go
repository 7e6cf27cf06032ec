package pipeline

import (
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/rewrite"
	"sluice/pipeline/service"
)

// sort is classify for a frame that can't take the express lane.
//
//go:noinline
func (p *Processor) classifySlow(f *Frame) {
	m := &f.meta
	f.home = 0
	if reason := packet.Parse(f.Mem, f.Start, f.End, m); reason != counter.None {
		f.drop(reason)
		return
	}
	id := p.t.Service(m.Dst, m.DstPort, m.Proto)
	if id == 0 || m.ICMPError {
		p.classifyNonClient(f)
		return
	}
	f.kind, f.service = kindForward, id
	p.locate(f, m.Src, m.SrcPort, id)
}

// otherWay is the rest of sort for a frame that is no client's to a service.
//
//go:noinline
func (p *Processor) classifyNonClient(f *Frame) {
	m := &f.meta
	if !m.ICMPError {
		f.kind = kindReply
		p.locate(f, m.Dst, m.DstPort, 0)
		return
	}
	if id := p.t.Service(m.Src, m.SrcPort, m.Proto); id != 0 {
		f.kind, f.service = kindICMPIn, id
		p.locate(f, m.Dst, m.DstPort, id)
		return
	}
	f.kind = kindICMPOut
	p.locate(f, m.Src, m.SrcPort, 0)
}

// travel takes a frame the way that sort has found, and books it by its verdict.
//
//go:noinline
func (p *Processor) slowPath(f *Frame) {
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

// forward takes a client's packet to its connection's backend, opening the connection if there is
// none.
func (p *Processor) forward(f *Frame) {
	m, id := &f.meta, f.service
	t := p.table(m)
	k := conn.Key{Service: id, ClientPort: m.SrcPort, VIPPort: m.DstPort}
	c := t.Find(f.home, m.Src, k, p.now)
	if c == nil || isNew(c, m) {
		if c = p.open(f, t, k, c); c == nil {
			return
		}
	}
	direction := conn.Input
	if c.Flags&conn.NoOutput != 0 {
		direction = conn.InputOnly
	}
	be := &p.t.Backends[c.Backend]
	if !be.serving {
		p.evictedInbound(f, t, k, c, be)
		return
	}
	p.advance(c, &p.t.Services[id], direction, m.TCPFlags)
	p.deliver(f, c, be)
}

// isNew says that a SYN means another connection than the finished one whose client address and
// port it reuses: IPVS's conn_reuse_mode 1. Under a template the client stays with its backend
// anyway.
func isNew(c *conn.Conn, m *packet.Meta) bool {
	return m.TCPFlags&(packet.SYN|packet.RST|packet.ACK) == packet.SYN &&
		(c.State == conn.TimeWait || c.State == conn.Close) && c.Flags&conn.HasTemplate == 0
}

// deliver sends a client's packet on to the connection's backend.
func (p *Processor) deliver(f *Frame, c *conn.Conn, be *Backend) {
	m := &f.meta
	length := m.End - m.L3
	if be.Unreach != counter.None || m.TTL <= 1 || length > be.maxLength {
		p.undeliverable(f, be)
		return
	}
	p.rewriteAndSend(f, c, be, length)
}

// carry rewrites a packet of so many bytes, which can go to its backend, and sends it there.
func (p *Processor) rewriteAndSend(f *Frame, c *conn.Conn, be *Backend, length uint16) {
	m := &f.meta
	p.countIn(c, length)
	switch be.Mode {
	case service.NAT:
		rewrite.NATIn(f.Mem, m, be.Addr, c.BackendPort)
	case service.FullNAT:
		rewrite.NATBoth(f.Mem, m, p.t.Sources[c.Source].Addr, c.Extra, be.Addr, c.BackendPort)
	case service.TUN:
		p.ipID++
		rewrite.DecTTL(f.Mem, m)
		rewrite.Encap(f.Mem, m, be.Source, be.Addr, p.ipID)
	default:
		rewrite.DecTTL(f.Mem, m)
	}
	f.send(m, &be.Link)
}

// undeliverable ends a packet that can't go to its backend: no way there, TTL used up, or too long.
func (p *Processor) undeliverable(f *Frame, be *Backend) {
	switch {
	case be.Unreach != counter.None:
		p.unreachable(f, be.Addr, be.Unreach)
	case f.meta.TTL <= 1:
		p.answer(f, counter.TTLExpired)
	default:
		p.tooBig(f, be.maxLength)
	}
}

// overhead is what the backend's mode adds to a packet's length, in bytes.
func (be *Backend) overhead() uint16 {
	switch {
	case be.Mode != service.TUN:
		return 0
	case be.Addr.Is4():
		return 20
	}
	return 40
}

// send finishes a frame that leaves by the link.
func (f *Frame) send(m *packet.Meta, l *rewrite.Link) {
	f.Start = rewrite.SetLink(f.Mem, m, l)
	f.End, f.Port, f.Verdict = int(m.End), l.Port, Forward
}

// reply takes a NAT or FullNAT backend's packet back to the client, as if the service had sent it.
func (p *Processor) reply(f *Frame) {
	m := &f.meta
	t := p.table(m)
	c := p.findReply(t, f.home, m.Dst, m.DstPort, m.Src, m.SrcPort, m.Proto)
	if c == nil {
		if p.handToPortOwner(f) || p.t.moved && p.handToNextWorker(f, p.workers) {
			return
		}
		f.drop(counter.NoConnection)
		return
	}
	s := &p.t.Services[c.Service()]
	if !midConnection(c, m.TCPFlags) { // advance, but for a question that only connections off their middle are worth
		if c.State == conn.Close && p.evictedReply(f, c) {
			return
		}
		p.changeState(c, conn.Output, m.TCPFlags)
	}
	c.Expires = p.now + s.TimeoutsMs[c.State]
	c.Flags |= conn.SeenReply
	client := m.Dst
	if c.Flags&conn.Translated != 0 {
		client = t.Client(c)
	}
	link, reason := p.t.Hops.Lookup(client)
	if reason == counter.NoNeighbour {
		if way := p.neighbourHints.lookup(client); way != nil {
			p.NeighbourRequests.add(client)
			link, reason = way, counter.None
		}
	}
	switch {
	case reason != counter.None:
		p.unreachable(f, client, reason)
		return
	case m.TTL <= 1:
		p.answer(f, counter.TTLExpired)
		return
	case m.End-m.L3 > link.MTU:
		p.tooBig(f, link.MTU)
		return
	}
	p.countOut(c, m.End-m.L3)
	if c.Flags&conn.Translated != 0 {
		rewrite.NATBoth(f.Mem, m, s.Addr, c.VIPPort(), client, c.ClientPort())
	} else {
		rewrite.NATOut(f.Mem, m, s.Addr, c.VIPPort())
	}
	f.send(m, link)
}

// findReply finds the connection of a packet from a backend to whom it takes for its client: the
// client itself (nat), or one of our addresses (fullnat).
func (p *Processor) findReply(t *conn.Table, home conn.Home, client packet.Addr, clientPort uint16, backend packet.Addr, port uint16, proto uint8) *conn.Conn {
	if source := p.t.sourceAt(client); source != 0 {
		return p.translated(t, uint8(source-1), clientPort, backend, port, proto, p.now)
	}
	return t.FindReply(home, client, clientPort, backend, port, proto == uint8(service.UDP), p.now)
}

// unreachable drops a packet that has no way to dst and remembers whom to resolve.
func (p *Processor) unreachable(f *Frame, dst packet.Addr, reason counter.Reason) {
	if reason == counter.NoNeighbour {
		p.NeighbourRequests.add(dst)
	}
	f.drop(reason)
}
