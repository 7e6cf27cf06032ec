package pipeline

import (
	"sluice/pipeline/conn"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
)

// The express lane opens connections, too: those of services without persistence, to backends that
// have a lane, when the table has room near the client's home, and for fullnat a pool has a port
// for sure. What it leaves in the tables and counters is what open and advance would.

// open4 is open and forward for the lane. It reports whether the frame is on its way; if not,
// nothing has happened.
//
//go:noinline
func (p *Processor) open4(f *Frame) bool {
	h := f.headers()
	client, vip, ports := h.Ends4()
	if !p.t.Services[f.service].opens || h.TTL4() <= 1 || packet.Martian4(client, vip) || p.t.isSource(packet.AddrFrom4(client)) {
		return false
	}
	slot, ok := p.v4.InsertSlot4(f.home, client, uint16(ports>>16), p.now)
	if !ok {
		return false
	}
	length := h.Length4()
	p.describe(packet.AddrFrom4(client), uint16(ports>>16), packet.AddrFrom4(vip), uint16(ports))
	id := p.choose(f.service, length)
	if id == 0 {
		return false
	}
	l := &p.t.lanes[id]
	c := p.v4.InsertAt4(f.home, slot, client, conn.PackKey(f.service, ports), p.t.Backends[id].Addr.V4(), l.flags)
	p.begin(p.v4, c, id, l)
	if l.mode.RepliesThroughUs() {
		p.heard.note(f, packet.AddrFrom4(client), f.Start, 0)
	}
	p.ride4(f, h, c, l, length)
	return true
}

// open6 is open4 for IPv6.
//
//go:noinline
func (p *Processor) open6(f *Frame) bool {
	h := f.headers()
	client, vip, ports := h.Ends6()
	if !p.t.Services[f.service].opens || h.TTL6() <= 1 || packet.Martian6(client, vip) || p.t.isSource(client) {
		return false
	}
	slot, ok := p.v6.InsertSlot6(f.home, client, uint16(ports>>16), p.now)
	if !ok {
		return false
	}
	length := h.Length6()
	p.describe(client, uint16(ports>>16), vip, uint16(ports))
	id := p.choose(f.service, length)
	if id == 0 {
		return false
	}
	l := &p.t.lanes[id]
	c := p.v6.InsertAt6(f.home, slot, client, conn.PackKey(f.service, ports), p.t.Backends[id].Addr, l.flags)
	p.begin(p.v6, c, id, l)
	if l.mode.RepliesThroughUs() {
		p.heard.note(f, client, f.Start, 0)
	}
	p.ride6(f, h, c, l, length)
	return true
}

// choose is pick for a packet of so many bytes, described already. 0 means that the lane has no
// backend for it, and that the scheduler doesn't know it was asked.
func (p *Processor) choose(id uint32, length uint16) uint32 {
	s, st := &p.t.Services[id], &p.sched[id]
	before := *st
	if at := s.Scheduler.Pick(st, p.loads, &p.key); at >= 0 {
		backend := s.Backends[at]
		if l := &p.t.lanes[backend]; length <= l.passes && (l.mode != service.FullNAT || p.hasPort(backend)) {
			return backend
		}
	}
	*st = before
	return 0
}

// begin fills in a new connection, and counts it.
func (p *Processor) begin(t *conn.Table, c *conn.Conn, backend uint32, l *lane) {
	c.Backend, c.BackendPort, c.State, c.Expires = backend, l.port, l.fresh, p.now+l.freshMs
	if l.mode == service.FullNAT {
		p.translate(t, c, p.t.Backends[backend].Addr) // succeeds: see hasPort
	}
	if l.fresh.Active() {
		c.SetCounted(true)
		p.loads.Add(p.worker, backend, 1, 0)
	} else {
		p.loads.Add(p.worker, backend, 0, 1)
	}
	p.Packets.ConnOpened++
	p.Backends[backend].Connections++
}
