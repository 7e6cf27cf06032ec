package pipeline

import (
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/rewrite"
	"sluice/pipeline/service"
)

// The slow path handles every frame: it parses the headers completely, looks connections up in all
// ways, and drops, answers or hands over what it does not forward. The fast path (fastpath.go) does
// the same for the usual case.

// classifySlow is classify for one frame that classifyFast did not classify.
//
//go:noinline
func (p *Processor) classifySlow(f *Frame) {
	m := &f.meta
	f.home = 0
	if reason := packet.Parse(f.Mem, f.Start, f.End, m); reason != counter.None && !p.classifyRefused(f, reason) {
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

// classifyRefused is classifySlow for a frame that Parse refused for the reason. It reports whether
// f.meta describes a flow nevertheless.
//
//go:noinline
func (p *Processor) classifyRefused(f *Frame, reason counter.Reason) bool {
	switch m := &f.meta; {
	case reason == counter.Fragment:
		return p.classifyFragment(f)
	case reason == counter.UnknownProtocol && p.t.isVIP(m.Dst) && packet.IsEcho(f.Mem, m):
		f.kind = kindEcho
	default:
		f.drop(reason)
	}
	return false
}

// classifyNonClient is the end of classifySlow for ICMP errors and for packets that are to no
// service.
//
//go:noinline
func (p *Processor) classifyNonClient(f *Frame) {
	m := &f.meta
	if !m.ICMPError && p.isNoService(m.Dst) {
		f.kind = kindNoService
		return
	}
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

// slowPath processes a frame by its kind and counts it by its verdict.
//
//go:noinline
func (p *Processor) slowPath(f *Frame) {
	switch f.kind {
	case kindForward:
		if f.meta.Part == packet.Later {
			p.forwardLater(f)
		} else {
			p.forward(f)
		}
	case kindReply:
		if f.meta.Part == packet.Later {
			p.replyLater(f)
		} else {
			p.reply(f)
		}
	case kindICMPIn:
		p.icmpIn(f)
	case kindICMPOut:
		p.icmpOut(f)
	case kindEcho:
		p.echo(f)
	case kindNoService:
		if !p.martian(f) {
			p.noService(f)
		}
	}
	p.count(f)
}

// forward sends a client's packet to the backend of its connection, which it opens if there is
// none.
func (p *Processor) forward(f *Frame) {
	m, id := &f.meta, f.service
	t := p.table(m)
	k := conn.Key{Service: id, ClientPort: m.SrcPort, VIPPort: m.DstPort}
	c := t.Find(f.home, m.Src, k, p.now)
	if c == nil || isNew(c, m) || p.leavesRemoved(c, m) {
		if c = p.open(f, t, k, c); c == nil {
			return
		}
	}
	direction := conn.Input
	if c.Flags&conn.NoOutput != 0 {
		direction = conn.InputOnly
	}
	be := &p.t.Backends[c.Backend]
	if be.Evict || c.State >= conn.Idle {
		p.endedInbound(f, t, k, c, be)
		return
	}
	if c.State == conn.FinWait && direction == conn.InputOnly && disprovesFIN(f) {
		p.enter(c, conn.Established)
	}
	if c.State == conn.SynChallenged && c.Flags&conn.Translated != 0 && m.TCPFlags&(packet.SYN|packet.RST|packet.ACK) == packet.SYN {
		p.changePort(t, c, be.Addr)
	}
	if !doubtful(c, be, m) || !p.doubt(f, t, c, direction) {
		p.advance(c, &p.t.Services[id], direction, m.TCPFlags)
		if c.Flags&conn.Proven == 0 && p.proves(c) {
			p.prove(c)
		}
	}
	p.deliver(f, c, be)
}

// isNew reports whether a SYN opens another connection than the finished one of the same client
// address and port, as with IPVS's conn_reuse_mode 1. Under a template the client stays with its
// backend in any case. A connection that was idle or was ended is as good as none.
func isNew(c *conn.Conn, m *packet.Meta) bool {
	if c.State >= conn.Idle {
		return m.TCPFlags&(packet.SYN|packet.RST) == packet.SYN
	}
	return m.TCPFlags&(packet.SYN|packet.RST|packet.ACK) == packet.SYN &&
		(c.State == conn.TimeWait || c.State == conn.Close) && c.Flags&conn.HasTemplate == 0
}

// deliver sends a client's packet to the backend of its connection, or drops or answers it.
func (p *Processor) deliver(f *Frame, c *conn.Conn, be *Backend) {
	m := &f.meta
	length := m.End - m.L3
	if be.Unreach != counter.None || m.TTL <= 1 || length > be.maxLength {
		p.undeliverable(f, be)
		return
	}
	p.rewriteAndSend(f, c, be, length)
}

// rewriteAndSend rewrites a packet of length bytes that can be sent to its backend, and sends it.
func (p *Processor) rewriteAndSend(f *Frame, c *conn.Conn, be *Backend, length uint16) {
	m := &f.meta
	p.countIn(c, length)
	switch be.Mode {
	case service.NAT:
		rewrite.NATIn(f.Mem, m, be.Addr, c.BackendPort)
		f.setFragmentID()
	case service.FullNAT:
		rewrite.NATBoth(f.Mem, m, p.t.Sources[c.Source].Addr, c.Extra, be.Addr, c.BackendPort)
		f.setFragmentID()
	case service.TUN:
		p.ipID++
		rewrite.DecTTL(f.Mem, m)
		rewrite.Encap(f.Mem, m, be.Source, be.Addr, p.ipID)
	default:
		rewrite.DecTTL(f.Mem, m)
	}
	f.send(m, &be.Link)
}

// undeliverable drops or answers a packet that cannot be sent to its backend: no next hop, TTL used
// up, or too long.
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

// overhead returns the number of bytes that the backend's mode adds to a packet.
func (be *Backend) overhead() uint16 {
	switch {
	case be.Mode != service.TUN:
		return 0
	case be.Addr.Is4():
		return 20
	}
	return 40
}

// send writes the Ethernet header of a frame that leaves by the link, and sets its verdict.
func (f *Frame) send(m *packet.Meta, l *rewrite.Link) {
	f.Start = rewrite.SetLink(f.Mem, m, l)
	f.End, f.Port, f.Verdict = int(m.End), l.Port, Forward
}

// replyState is changeState for a backend's packet. Only the first answer to a SYN challenges it. A
// backend that has answered by SYN-ACK, and then gets an older copy of the SYN which came late,
// sends an ACK without SYN, too (RFC 7323, 5.3): that connection is about to open, and keeps its
// port.
func (p *Processor) replyState(c *conn.Conn, tcpFlags uint8) {
	before := c.State
	if midConnection(c, tcpFlags) {
		return
	}
	p.changeState(c, conn.Output, tcpFlags)
	if before == conn.SynRecv && c.State == conn.SynChallenged && c.Flags&conn.SeenReply != 0 {
		c.State = before
	}
}

// reply sends the packet of a nat or fullnat backend to the client, with the source address of the
// service.
func (p *Processor) reply(f *Frame) {
	m := &f.meta
	t := p.table(m)
	c := p.findReply(t, f.home, m.Dst, m.DstPort, m.Src, m.SrcPort, m.Proto)
	if c == nil {
		if p.handReply(f) {
			return
		}
		p.stray(f)
		return
	}
	s := &p.t.Services[c.Service()]
	// advance, with a check that only a connection outside its middle needs
	if !midConnection(c, m.TCPFlags) && (c.State == conn.Close || c.State >= conn.Idle) && p.endedReply(f, c) {
		return
	}
	if c.State == conn.SynRecv && c.Flags&(conn.Translated|conn.SeenReply) == conn.Translated && p.refusesSYN(f, t, c) {
		return
	}
	if m.TCPFlags&packet.RST == 0 || !p.doubt(f, t, c, conn.Output) {
		p.replyState(c, m.TCPFlags)
		c.Expires = p.now + s.TimeoutsMs[c.State]
	}
	c.Flags |= conn.SeenReply
	if c.Flags&(conn.IsUDP|conn.Proven) == conn.IsUDP {
		p.prove(c)
	}
	client := clientOf(t, c, m.Dst)
	link, reason := p.linkTo(client)
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
	f.setFragmentID()
	f.send(m, link)
}

// clientOf returns the client of a connection. dst is where its backend sends to: in nat the client
// itself.
func clientOf(t *conn.Table, c *conn.Conn, dst packet.Addr) packet.Addr {
	if c.Flags&conn.Translated != 0 {
		return t.Client(c)
	}
	return dst
}

// linkTo returns the next hop to a client, or why there is none.
func (p *Processor) linkTo(client packet.Addr) (*rewrite.Link, counter.Reason) {
	link, reason := p.t.Hops.Lookup(client)
	if reason == counter.NoNeighbour {
		if way := p.neighbourHints.lookup(client); way != nil {
			p.NeighbourRequests.add(client)
			return way, counter.None
		}
	}
	return link, reason
}

// isNoService reports whether a packet to no service that has this destination cannot be a reply
// either: no client has a VIP as its address.
func (p *Processor) isNoService(dst packet.Addr) bool { return p.t.isVIP(dst) && !p.t.isSource(dst) }

// findReply returns the connection of a packet from a backend, nil if there is none. client and
// clientPort are the destination of the packet: the client (nat) or one of fullnat's sources.
func (p *Processor) findReply(t *conn.Table, home conn.Home, client packet.Addr, clientPort uint16, backend packet.Addr, port uint16, proto uint8) *conn.Conn {
	if source := p.t.sourceAt(client); source != 0 {
		return p.translated(t, uint8(source-1), clientPort, backend, port, proto, p.now)
	}
	return t.FindReply(home, client, clientPort, backend, port, proto == uint8(service.UDP), p.now)
}

// unreachable drops a packet to dst for the reason. If the MAC address of the next hop is not
// known, it requests it.
func (p *Processor) unreachable(f *Frame, dst packet.Addr, reason counter.Reason) {
	if reason == counter.NoNeighbour {
		p.NeighbourRequests.add(dst)
	}
	f.drop(reason)
}
