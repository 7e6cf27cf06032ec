package pipeline

import (
	"math/bits"

	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/rewrite"
	"sluice/pipeline/service"
	"sluice/pipeline/servicemap"
)

// # The fast path
//
// The fast path handles the packets that nearly all are, with half the instructions of the slow
// path (slowpath.go). It never decides anything that the slow path would decide differently: a
// frame that it is not sure about goes to the slow path as if it had just arrived.
//
// It takes a packet if all of this holds:
//
//   - It is TCP or UDP over IPv4 without options or over IPv6 without extension headers, in an
//     untagged frame, neither a fragment, nor malformed, nor cut (packet.FastParse4, FastParse6).
//   - From a client: its destination is a service of one port, and this worker owns the flow.
//   - From a backend: its destination belongs to no service, and it finds a connection of mode nat
//     by the backend and the client, or of mode fullnat by the local port.
//   - The connection exists, has not expired and is in the middle of its life (TCP ESTABLISHED with
//     ACK and none of SYN, FIN and RST; UDP). Or it is a SYN or a first datagram from a client, and
//     fastpath_open.go can open the connection, or the packet after one of those, where that one
//     needs none, or a segment that is adopted (first_packets.go).
//   - The backend has a fast entry (fastpath_entry.go): it serves one service of one port, is
//     configured, is not evicted, and its next hop is resolved and untagged.
//   - The packet fits the MTU, and its TTL or hop limit is above 1.
//
// These invariants hold:
//
//   - Nothing is written until the frame is certain to leave: no counter, connection, scheduler
//     position, neighbour hint or byte of the frame. classifyFast may only set the frame's private
//     fields. A function that returns false has changed nothing.
//   - The bytes that leave, and everything that the worker records, are those of the slow path
//     (TestFastPathEqualsSlowPath and the tests after it compare the two on random traffic).
//   - It answers and hands over no frame. It drops those of clients that a list denies (access.go),
//     and fallback drops one that has martian addresses.
//   - It does not allocate and takes a bounded number of steps.
//
// Whatever else may happen is the slow path's: the packet that proves a connection, drops by name,
// RST and ICMP answers, hand-over, persistence, ranges of ports, VLAN tags, TCP states, eviction,
// neighbour hints for replies, fullnat backends of any port, and entries that must be removed
// first.
//
// The steps:
//
//	classifyFast  headers, service, ownership, and where the connection is (fullnat: which it is)
//	fastForward   a client's packet: connection, checks, rewrite, send
//	fastReply     a backend's packet: likewise
//	fastOpen      a client's packet that opens a connection
//	fallback      back to the slow path
//
// fastForward and fastReply are not inlined into flows: each has its registers to itself. Inlined,
// the whole takes up to 8 % longer, and a change to one of them moves the time of the others.
//
// The functions for IPv4 and IPv6 are kept apart although they read alike. With one function for
// both that looks up the service and the connection by a family-independent address, an established
// NAT packet over IPv4 takes 17 % more instructions (valgrind, bench/results/memory/README.md), and
// a common rewrite would add to that. A change to one of a pair belongs in the other, too.

// classifyFast is classifySlow for the fast path: it finds the service and the home of the
// connection. It reports whether the frame is classified; if not, classifySlow must do it.
func (p *Processor) classifyFast(f *Frame) bool {
	h := packet.HeadersAt(f.Mem, f.Start)
	if h == nil {
		return false
	}
	if !h.MaybeIPv4() {
		return h.MaybeIPv6() && p.classifyFast6(f, h)
	}
	g := h.FastParse4(f.End - f.Start - packet.EthernetLen)
	if g == packet.NotFast {
		return false
	}
	client, vip, ports := h.Ends4()
	id := p.t.services.Exact.Get4(servicemap.Key4(vip, servicemap.End(uint16(ports), g.Proto())))
	if !servicemap.IsService(id) {
		return id == 0 && p.classifyFastReply4(f, h, g)
	}
	hash := p.seed.Hash(packet.AddrFrom4(client), uint16(ports>>16), g.Proto())
	if p.workers > 1 && f.Hops == 0 && !p.owns(hash, id) {
		return false
	}
	f.kind, f.service, f.home = kindFastForward4, id, p.v4.Home(hash)
	if g >= packet.Opening {
		p.classifyFastRare(f, g)
	}
	return true
}

// classifyFastReply4 is classifyFast for a packet to an address and port that is no service of one
// port. If a backend sent it, the destination is the client or one of fullnat's sources.
//
//go:noinline
func (p *Processor) classifyFastReply4(f *Frame, h *packet.Headers, g packet.FastKind) bool {
	backend, client, ports := h.Ends4()
	if p.t.services.FindRange(packet.AddrFrom4(client), uint16(ports), g.Proto()) != 0 {
		return false
	}
	if source := p.t.sourceAt(packet.AddrFrom4(client)); source != 0 {
		return p.classifyFastFullNAT(f, g, p.v4, uint8(source-1), packet.AddrFrom4(backend), ports)
	}
	hash := p.seed.Hash(packet.AddrFrom4(client), uint16(ports), g.Proto())
	if p.workers > 1 && f.Hops == 0 && !p.ownsReply(hash) {
		return false
	}
	f.kind, f.service, f.home, f.fullnatSlot = kindFastReply4, 0, p.v4.Home(hash), 0
	if g >= packet.Opening {
		p.classifyFastRare(f, g)
	}
	return true
}

// classifyFast6 is classifyFast for IPv6.
func (p *Processor) classifyFast6(f *Frame, h *packet.Headers) bool {
	g := h.FastParse6(f.End - f.Start - packet.EthernetLen)
	if g == packet.NotFast {
		return false
	}
	client, vip, ports := h.Ends6()
	id := p.t.services.Exact.Get(vip, uint16(ports), g.Proto())
	if !servicemap.IsService(id) {
		return id == 0 && p.classifyFastReply6(f, h, g)
	}
	hash := p.seed.Hash(client, uint16(ports>>16), g.Proto())
	if p.workers > 1 && f.Hops == 0 && !p.owns(hash, id) {
		return false
	}
	f.kind, f.service, f.home = kindFastForward6, id, p.v6.Home(hash)
	if g >= packet.Opening {
		p.classifyFastRare(f, g)
	}
	return true
}

// classifyFastReply6 is classifyFastReply4 for IPv6.
//
//go:noinline
func (p *Processor) classifyFastReply6(f *Frame, h *packet.Headers, g packet.FastKind) bool {
	backend, client, ports := h.Ends6()
	if p.t.services.FindRange(client, uint16(ports), g.Proto()) != 0 {
		return false
	}
	if source := p.t.sourceAt(client); source != 0 {
		return p.classifyFastFullNAT(f, g, p.v6, uint8(source-1), backend, ports)
	}
	hash := p.seed.Hash(client, uint16(ports), g.Proto())
	if p.workers > 1 && f.Hops == 0 && !p.ownsReply(hash) {
		return false
	}
	f.kind, f.service, f.home, f.fullnatSlot = kindFastReply6, 0, p.v6.Home(hash), 0
	if g >= packet.Opening {
		p.classifyFastRare(f, g)
	}
	return true
}

// classifyFastFullNAT classifies a packet to one of fullnat's sources. The connection that has the
// port may belong to another backend; fastReply compares them once the connection is in the cache.
//
//go:noinline
func (p *Processor) classifyFastFullNAT(f *Frame, g packet.FastKind, t *conn.Table, source uint8, backend packet.Addr, ports uint32) bool {
	slot, ok := p.lookupSlot(p.t.replyEndpoint(backend, uint16(ports>>16), g.Proto()), source, uint16(ports))
	if !ok || p.t.anyPort { // the connection may be one of a backend of any port
		return false
	}
	f.kind, f.service, f.home, f.fullnatSlot = kindFastReply4, 0, t.HomeAt(slot), slot+1
	if t == p.v6 {
		f.kind = kindFastReply6
	}
	if g >= packet.Opening {
		p.classifyFastRare(f, g)
	}
	return true
}

// classifyFastRare ends the classification of a TCP packet that is not in the middle of its
// connection.
//
//go:noinline
func (p *Processor) classifyFastRare(f *Frame, g packet.FastKind) {
	if s := &p.t.Services[f.service]; g == packet.Opening && s.fastOpen && (p.fullMs != p.now || s.marks) {
		f.kind += kindFastOpen4 - kindFastForward4
		p.openings++
		return
	}
	p.fallback(f)
}

// fallback returns a frame that classifyFast has classified to the slow path.
//
//go:noinline
func (p *Processor) fallback(f *Frame) {
	h, ok := f.headers(), false
	if f.kind >= kindFastForward6 {
		ok = h.Parse6(f.Start, &f.meta)
	} else {
		ok = h.Parse4(f.Start, &f.meta)
	}
	if !ok {
		f.drop(counter.Martian)
		return
	}
	switch {
	case f.service != 0:
		f.kind = kindForward
	case p.isNoService(f.meta.Dst):
		f.kind = kindNoService
	default:
		f.kind = kindReply
	}
}

// fastForward4 is forward for the fast path. It reports whether the frame was sent; if not, nothing
// has changed.
//
//go:noinline
func (p *Processor) fastForward4(f *Frame) bool {
	h := f.headers()
	client, _, ports := h.Ends4()
	key := conn.PackKey(f.service, ports)
	c := p.v4.AtHome4(f.home, client, key)
	if c == nil {
		if c = p.v4.Find(f.home, packet.AddrFrom4(client), conn.UnpackKey(key), p.now); c == nil {
			return (h.Proto4() == packet.UDP || p.t.Services[f.service].marks) && p.fastOpen4(f)
		}
	}
	l, length := &p.t.fastEntries[c.Backend], h.Length4()
	if c.State != l.state || length > l.maxLength || h.TTL4() <= 1 || c.Expired(p.now) || c.Flags&conn.Proven == 0 && p.proves(c) {
		return false
	}
	c.Expires = p.now + l.idleMs
	p.sendFast4(f, h, c, l, length)
	return true
}

// sendFast4 rewrites a packet of length bytes and sends it to the backend of its connection.
func (p *Processor) sendFast4(f *Frame, h *packet.Headers, c *conn.Conn, l *fastEntry, length uint16) {
	p.countIn(c, length)
	f.finish(&l.link, length)
	switch l.mode {
	case service.NAT:
		l.in.In4(h, l.proto == packet.TCP)
		l.link.Apply(h)
	case service.TUN:
		p.ipID++
		f.Start = l.tunnel.Wrap4(h, f.Start, length, bits.ReverseBytes16(p.ipID), &l.link)
	case service.FullNAT:
		l.in.Both4(h, p.t.Sources[c.Source].Addr.V4(), c.Extra, l.proto == packet.TCP)
		l.link.Apply(h)
	default:
		l.link.DR4(h)
	}
}

// fastForward6 is fastForward4 for IPv6.
//
//go:noinline
func (p *Processor) fastForward6(f *Frame) bool {
	h := f.headers()
	client, _, ports := h.Ends6()
	key := conn.PackKey(f.service, ports)
	c := p.v6.AtHome6(f.home, client, key)
	if c == nil {
		if c = p.v6.Find(f.home, client, conn.UnpackKey(key), p.now); c == nil {
			return (h.Proto6() == packet.UDP || p.t.Services[f.service].marks) && p.fastOpen6(f)
		}
	}
	l, length := &p.t.fastEntries[c.Backend], h.Length6()
	if c.State != l.state || length > l.maxLength || h.TTL6() <= 1 || c.Expired(p.now) || c.Flags&conn.Proven == 0 && p.proves(c) {
		return false
	}
	c.Expires = p.now + l.idleMs
	p.sendFast6(f, h, c, l, length)
	return true
}

// sendFast6 is sendFast4 for IPv6.
func (p *Processor) sendFast6(f *Frame, h *packet.Headers, c *conn.Conn, l *fastEntry, length uint16) {
	p.countIn(c, length)
	f.finish(&l.link, length)
	switch l.mode {
	case service.NAT:
		l.in.In6(h, l.proto == packet.TCP)
		l.link.Apply(h)
	case service.TUN:
		p.ipID++
		f.Start = l.tunnel.Wrap6(h, f.Start, length, bits.ReverseBytes16(p.ipID), &l.link)
	case service.FullNAT:
		l.in.Both6(h, p.t.Sources[c.Source].Addr, c.Extra, l.proto == packet.TCP)
		l.link.Apply(h)
	default:
		l.link.DR6(h)
	}
}

// fastReply4 is reply for the fast path. It reports whether the frame was sent; if not, nothing has
// changed.
//
//go:noinline
func (p *Processor) fastReply4(f *Frame) bool {
	h := f.headers()
	backend, client, ports := h.Ends4()
	if backend == client { // the backend is a client of its own service: martian
		return false
	}
	var c *conn.Conn
	mode := service.NAT
	if f.fullnatSlot == 0 {
		c = p.v4.ReplyAtHome4(f.home, backend, client, ports)
		if c == nil {
			c = p.v4.FindReply(f.home, packet.AddrFrom4(client), uint16(ports), packet.AddrFrom4(backend), uint16(ports>>16), h.Proto4() == packet.UDP, p.now)
		}
	} else if c = p.v4.TranslatedAt4(f.fullnatSlot-1, backend, ports); c != nil && p.t.Sources[c.Source].Addr.V4() == client {
		mode, client = service.FullNAT, p.v4.Client4(c)
	}
	if c == nil {
		return false
	}
	l, length := &p.t.fastEntries[c.Backend], h.Length4()
	if l.mode != mode || h.Proto4() != l.proto || c.State != l.state || c.Expired(p.now) || h.TTL4() <= 1 {
		return false
	}
	link, reason := p.t.Hops.Lookup(packet.AddrFrom4(client))
	if reason != counter.None || length > link.MTU || link.VLAN != 0 {
		return false
	}
	c.Expires = p.now + l.idleMs
	if c.Flags |= conn.SeenReply; c.Flags&(conn.IsUDP|conn.Proven) == conn.IsUDP {
		p.prove(c)
	}
	if mode == service.NAT {
		l.out.Out4(h, l.proto == packet.TCP)
	} else {
		l.out.Back4(h, client, c.ClientPort(), l.proto == packet.TCP)
	}
	link.Apply(h)
	p.countOut(c, length)
	f.finish(link, length)
	return true
}

// fastReply6 is fastReply4 for IPv6.
//
//go:noinline
func (p *Processor) fastReply6(f *Frame) bool {
	h := f.headers()
	backend, client, ports := h.Ends6()
	if backend == client { // the backend is a client of its own service: martian
		return false
	}
	var c *conn.Conn
	mode := service.NAT
	if f.fullnatSlot == 0 {
		c = p.v6.ReplyAtHome6(f.home, backend, client, ports)
		if c == nil {
			c = p.v6.FindReply(f.home, client, uint16(ports), backend, uint16(ports>>16), h.Proto6() == packet.UDP, p.now)
		}
	} else if c = p.v6.TranslatedAt6(f.fullnatSlot-1, backend, ports); c != nil && p.t.Sources[c.Source].Addr == client {
		mode, client = service.FullNAT, p.v6.Client(c)
	}
	if c == nil {
		return false
	}
	l, length := &p.t.fastEntries[c.Backend], h.Length6()
	if l.mode != mode || h.Proto6() != l.proto || c.State != l.state || c.Expired(p.now) || h.TTL6() <= 1 {
		return false
	}
	link, reason := p.t.Hops.Lookup(client)
	if reason != counter.None || length > link.MTU || link.VLAN != 0 {
		return false
	}
	c.Expires = p.now + l.idleMs
	if c.Flags |= conn.SeenReply; c.Flags&(conn.IsUDP|conn.Proven) == conn.IsUDP {
		p.prove(c)
	}
	if mode == service.NAT {
		l.out.Out6(h, l.proto == packet.TCP)
	} else {
		l.out.Back6(h, client, c.ClientPort(), l.proto == packet.TCP)
	}
	link.Apply(h)
	p.countOut(c, length)
	f.finish(link, length)
	return true
}

// countIn counts a packet of length bytes to the backend of the connection.
func (p *Processor) countIn(c *conn.Conn, length uint16) {
	count := &p.Backends[c.Backend]
	count.InPackets++
	count.InBytes += uint64(length)
}

// countOut counts a packet of length bytes from the backend of the connection.
func (p *Processor) countOut(c *conn.Conn, length uint16) {
	count := &p.Backends[c.Backend]
	count.OutPackets++
	count.OutBytes += uint64(length)
}

// finish sets the verdict of a frame that leaves by the link with a packet of length bytes. The
// frame begins at Start.
func (f *Frame) finish(l *rewrite.Link, length uint16) {
	f.End = f.Start + packet.EthernetLen + int(length)
	f.Port, f.Verdict = l.Port, Forward
}
