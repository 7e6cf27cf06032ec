package pipeline

import (
	"sluice/pipeline/conn"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
)

// The fast path opens connections of services without persistence, to backends with a fast entry,
// if the service may have one more, the table has a free slot near the home of the client and, for
// fullnat, a SNAT pool has a free port. It leaves the same entries in tables and counters as open
// and advance.

// fastOpen4 is open and forward for the fast path. It reports whether the frame was sent. If not,
// nothing has changed, or the frame is dropped because a list denies its client.
//
//go:noinline
func (p *Processor) fastOpen4(f *Frame) bool {
	h := f.headers()
	client, vip, ports := h.Ends4()
	if p.mayBeMisplaced(f) && p.isMisplaced(packet.AddrFrom4(client), conn.UnpackKey(conn.PackKey(f.service, ports))) {
		return false
	}
	if s := &p.t.Services[f.service]; s.marks {
		return p.fastFirst4(f)
	} else if !s.fastOpen || h.TTL4() <= 1 || packet.Martian4(client, vip) || p.t.origins.special(packet.AddrFrom4(client)) {
		return false
	}
	slot, ok := p.v4.InsertSlot4(f.home, client, uint16(ports>>16), p.now)
	if !ok || !p.tally.Admits(f.service, p.t.Services[f.service].Unproven) ||
		f.kind == kindFastForward4 && p.t.Services[f.service].guarded && p.denied(f, packet.AddrFrom4(client)) {
		return false
	}
	length := h.Length4()
	p.setSchedKey(packet.AddrFrom4(client), uint16(ports>>16), packet.AddrFrom4(vip), uint16(ports))
	id := p.pickFast(f.service, length)
	if id == 0 {
		return false
	}
	l := &p.t.fastEntries[id]
	c := p.v4.InsertAt4(f.home, slot, client, conn.PackKey(f.service, ports), p.t.Backends[id].Addr.V4(), l.flags)
	p.beginFast(p.v4, c, id, l, l.opened, l.openedMs)
	if l.mode.RepliesThroughUs() {
		p.neighbourHints.record(f, packet.AddrFrom4(client), f.Start, 0)
	}
	if p.syns.kept && l.mode == service.FullNAT {
		l3 := f.Start + packet.EthernetLen
		p.keepSYN(c, f.Mem, l3, l3+packet.IPv4Len, l3+int(length))
	}
	p.sendFast4(f, h, c, l, length)
	return true
}

// fastOpen6 is fastOpen4 for IPv6.
//
//go:noinline
func (p *Processor) fastOpen6(f *Frame) bool {
	h := f.headers()
	client, vip, ports := h.Ends6()
	if p.mayBeMisplaced(f) && p.isMisplaced(client, conn.UnpackKey(conn.PackKey(f.service, ports))) {
		return false
	}
	if s := &p.t.Services[f.service]; s.marks {
		return p.fastFirst6(f)
	} else if !s.fastOpen || h.TTL6() <= 1 || packet.Martian6(client, vip) || p.t.origins.special(client) {
		return false
	}
	slot, ok := p.v6.InsertSlot6(f.home, client, uint16(ports>>16), p.now)
	if !ok || !p.tally.Admits(f.service, p.t.Services[f.service].Unproven) ||
		f.kind == kindFastForward6 && p.t.Services[f.service].guarded && p.denied(f, client) {
		return false
	}
	length := h.Length6()
	p.setSchedKey(client, uint16(ports>>16), vip, uint16(ports))
	id := p.pickFast(f.service, length)
	if id == 0 {
		return false
	}
	l := &p.t.fastEntries[id]
	c := p.v6.InsertAt6(f.home, slot, client, conn.PackKey(f.service, ports), p.t.Backends[id].Addr, l.flags)
	p.beginFast(p.v6, c, id, l, l.opened, l.openedMs)
	if l.mode.RepliesThroughUs() {
		p.neighbourHints.record(f, client, f.Start, 0)
	}
	if p.syns.kept && l.mode == service.FullNAT {
		l3 := f.Start + packet.EthernetLen
		p.keepSYN(c, f.Mem, l3, l3+packet.IPv6Len, l3+int(length))
	}
	p.sendFast6(f, h, c, l, length)
	return true
}

// pickFast is pick for a packet of length bytes. The caller has called setSchedKey. It returns 0 if
// the fast path has no backend for the packet; the state of the scheduler is then as before.
func (p *Processor) pickFast(id uint32, length uint16) uint32 {
	s, st := &p.t.Services[id], &p.sched[id]
	draws := st.Rand
	for {
		at, turn := p.propose(id, s)
		if at < 0 {
			break
		}
		backend := s.Backends[at]
		if l := &p.t.fastEntries[backend]; length > l.maxLength || l.mode == service.FullNAT && !p.hasPort(id, backend) {
			break
		}
		if p.turns.Advance(id, turn, st.Turn) {
			return backend
		}
	}
	st.Rand = draws
	return 0
}

// beginFast fills in a new connection to the backend and counts it.
func (p *Processor) beginFast(t *conn.Table, c *conn.Conn, backend uint32, l *fastEntry, state conn.State, timeoutMs uint32) {
	c.Backend, c.BackendPort, c.State, c.Expires = backend, l.port, state, p.now+timeoutMs
	if l.mode == service.FullNAT {
		p.assignPort(t, c, p.t.Backends[backend].Addr) // succeeds: see hasPort
	}
	if l.flags&conn.NoOutput != 0 {
		c.Extra = p.openedAt()
	}
	p.began(t, c)
	if state.Active() {
		p.loads.Add(p.worker, backend, 1, 0)
	} else {
		p.loads.Add(p.worker, backend, 0, 1)
	}
	p.Packets.ConnOpened++
	p.Backends[backend].Connections++
}
