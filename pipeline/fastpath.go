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

// The express lane carries what nearly all packets are: those in the middle of a connection, with
// nothing wrong about them. It does with them what sort, forward and reply would do, in half the
// instructions, since it asks only whether all is as usual, and not what else it may be. Where it
// isn't sure it does nothing, and the frame goes the ordinary way.
//
//	board     is it TCP or UDP to a service of one port, or from a backend? then where would its connection be (fullnat: where is it)
//	express   is the connection there, alive, and in its middle? then rewrite by what is prepared, and send
//	open      express for the packet that opens a connection: see express_open.go

// board is sort for the express lane: it finds the service and the connection's home. It reports
// whether the frame may take the lane, or is sorted.
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

// boardBack4 is board for what is no client's packet: if it is a backend's, its destination is the
// client.
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

// board6 is board for IPv6.
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

// boardBack6 is boardBack4 for IPv6.
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

// boardLocal is boardBack for what comes to one of fullnat's sources. Whether the connection that
// has the port is the frame's, is seen when it has come from memory.
//
//go:noinline
func (p *Processor) classifyFastFullNAT(f *Frame, g packet.FastKind, t *conn.Table, source uint8, backend packet.Addr, ports uint32) bool {
	slot, ok := p.lookupSlot(p.t.replyEndpoint(backend, uint16(ports>>16), g.Proto()), source, uint16(ports))
	if !ok || p.t.anyPort { // with any port another door may be meant
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

// unusual is the end of boarding for a packet that isn't in the middle of its connection.
//
//go:noinline
func (p *Processor) classifyFastRare(f *Frame, g packet.FastKind) {
	if g == packet.Opening && p.t.Services[f.service].fastOpen {
		f.kind += kindFastOpen4 - kindFastForward4
		p.openings++
		return
	}
	p.fallback(f)
}

// leave takes a frame that has boarded out of the lane: it is sorted then.
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
	if f.service != 0 {
		f.kind = kindForward
	} else {
		f.kind = kindReply
	}
}

// express4 is forward for the lane. It reports whether the frame is on its way; if not, nothing has
// happened.
func (p *Processor) fastForward4(f *Frame) bool {
	h := f.headers()
	client, _, ports := h.Ends4()
	key := conn.PackKey(f.service, ports)
	c := p.v4.AtHome4(f.home, client, key)
	if c == nil {
		if c = p.v4.Find(f.home, packet.AddrFrom4(client), conn.UnpackKey(key), p.now); c == nil {
			return h.Proto4() == packet.UDP && p.fastOpen4(f)
		}
	}
	l, length := &p.t.fastEntries[c.Backend], h.Length4()
	if c.State != l.state || length > l.maxLength || h.TTL4() <= 1 || c.Expired(p.now) {
		return false
	}
	c.Expires = p.now + l.idleMs
	p.sendFast4(f, h, c, l, length)
	return true
}

// ride4 sends a packet of so many bytes to its connection's backend.
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

// express6 is express4 for IPv6.
func (p *Processor) fastForward6(f *Frame) bool {
	h := f.headers()
	client, _, ports := h.Ends6()
	key := conn.PackKey(f.service, ports)
	c := p.v6.AtHome6(f.home, client, key)
	if c == nil {
		if c = p.v6.Find(f.home, client, conn.UnpackKey(key), p.now); c == nil {
			return h.Proto6() == packet.UDP && p.fastOpen6(f)
		}
	}
	l, length := &p.t.fastEntries[c.Backend], h.Length6()
	if c.State != l.state || length > l.maxLength || h.TTL6() <= 1 || c.Expired(p.now) {
		return false
	}
	c.Expires = p.now + l.idleMs
	p.sendFast6(f, h, c, l, length)
	return true
}

// ride6 sends a packet of so many bytes to its connection's backend.
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

// back4 is express for a backend's packet.
func (p *Processor) fastReply4(f *Frame) bool {
	h := f.headers()
	backend, client, ports := h.Ends4()
	if backend == client { // a backend that is a client of its own: martian
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
	c.Flags |= conn.SeenReply
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

// back6 is back4 for IPv6.
func (p *Processor) fastReply6(f *Frame) bool {
	h := f.headers()
	backend, client, ports := h.Ends6()
	if backend == client { // a backend that is a client of its own: martian
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
	c.Flags |= conn.SeenReply
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

// countIn counts a packet to a backend.
func (p *Processor) countIn(c *conn.Conn, length uint16) {
	count := &p.Backends[c.Backend]
	count.InPackets++
	count.InBytes += uint64(length)
}

// countOut counts a packet from a backend.
func (p *Processor) countOut(c *conn.Conn, length uint16) {
	count := &p.Backends[c.Backend]
	count.OutPackets++
	count.OutBytes += uint64(length)
}

// depart sends a packet of so many bytes by the link, from the place where it is.
func (f *Frame) finish(l *rewrite.Link, length uint16) {
	f.End = f.Start + packet.EthernetLen + int(length)
	f.Port, f.Verdict = l.Port, Forward
}
