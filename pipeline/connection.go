package pipeline

import (
	"slices"

	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
)

// templateGraceMs is by how much a template outlives its timeout while connections under it exist,
// as in IPVS (ip_vs_conn_expire).
const templateGraceMs = 60_000

// newMs is the timeout of an entry before its first state, as in IPVS (ip_vs_conn_new).
const newMs = 3_000

// open opens a connection for a client's packet. old is a finished connection with the same key, or
// nil. If it fails, it sets the frame's verdict and returns nil.
//
// noinline: inlined into forward, which rarely calls it, it would cost forward more saved
// registers.
//
//go:noinline
func (p *Processor) open(f *Frame, t *conn.Table, k conn.Key, old *conn.Conn) *conn.Conn {
	if p.martian(f) || p.t.Services[f.service].guarded && p.denied(f, f.meta.Src) {
		return nil
	}
	if old != nil {
		p.close(t, old)
		t.Remove(old)
	}
	m, s := &f.meta, &p.t.Services[f.service]
	if p.handMisplaced(f, m.Src, k, s) || m.Part != packet.Whole && p.seeksConnection(f, s) {
		return nil
	}
	if s.Ownership == ByFlowNow && p.handToFlowOwner(f, m.Src, m.SrcPort) {
		return nil
	}
	opening := m.Proto != uint8(service.TCP) || m.TCPFlags&(packet.SYN|packet.RST) == packet.SYN
	if s.marks || s.Earlier != nil {
		if c, done := p.openMarked(f, t, k, s, opening); done {
			return c
		}
	}
	switch {
	case opening:
	case p.adopts(k.Service, s):
		return p.adopt(f, t, k, s)
	default:
		p.reject(f, s)
		return nil
	}
	if s.limited {
		if l, over := p.overLimit(k.Service, s, m.Src); over {
			return p.beyondLimit(f, t, k, s, l)
		}
	}
	c := p.insertNew(f, t, k, s)
	if s.limited && (c == nil || slices.Contains(s.Sorry, c.Backend)) {
		p.releaseSource(k.Service, s, m.Src)
	}
	if c != nil && s.PersistMs != 0 {
		p.bindTemplate(t, m, c, s)
	}
	return c
}

// insertNew inserts a connection that no limit forbids. If it fails, it sets the frame's verdict
// and returns nil. Persistence goes before the limit of a backend, as in IPVS, which asks the
// scheduler only for clients without a template.
func (p *Processor) insertNew(f *Frame, t *conn.Table, k conn.Key, s *Service) *conn.Conn {
	if !p.admit(f, t, k.Service) {
		p.noEntry(f, t, k, s)
		return nil
	}
	if s.PersistMs != 0 {
		if template := p.template(t, &f.meta, k.Service, s); template != nil && p.usable(template.Backend) {
			return p.insertBound(f, t, k, template.Backend)
		}
	}
	return p.insertPicked(f, t, k, s)
}

// insertBound inserts a connection to the backend that persistence binds the client to. If it
// fails, it drops the frame and returns nil.
func (p *Processor) insertBound(f *Frame, t *conn.Table, k conn.Key, backend uint32) *conn.Conn {
	c, reason := p.insert(f, t, k, backend)
	if c == nil {
		p.notInserted(f, t, k, &p.t.Services[k.Service], reason)
	}
	return c
}

// notInserted handles the first packet of a connection that could not be inserted for the reason.
func (p *Processor) notInserted(f *Frame, t *conn.Table, k conn.Key, s *Service, reason counter.Reason) {
	if reason == counter.TableFull { // no slot near its home is free
		p.noRoom(f, k.Service)
		p.noEntry(f, t, k, s)
		return
	}
	f.drop(reason)
}

// insertPicked inserts a connection to the backend that the service's scheduler picks or, if that
// one has no free tuple for it or is full, to the next one in the list that has. If it fails, it
// sets the frame's verdict and returns nil.
func (p *Processor) insertPicked(f *Frame, t *conn.Table, k conn.Key, s *Service) *conn.Conn {
	picked := p.pick(&f.meta, k.Service, s)
	if picked < 0 {
		p.answer(f, counter.NoBackend)
		return nil
	}
	for at := picked; ; {
		c, reason := p.insertInto(f, t, k, s.Backends[at])
		if c != nil {
			return c
		}
		if reason == counter.TupleTaken || reason == counter.SNATExhausted || reason == counter.Limited {
			at = s.Scheduler.After(at)
		} else {
			at = picked
		}
		if at == picked && reason == counter.Limited {
			l, _ := p.exceeded(k.Service, counter.LimitBackends)
			return p.beyondLimit(f, t, k, s, l)
		}
		if at == picked {
			p.notInserted(f, t, k, s, reason)
			return nil
		}
	}
}

// insertInto is insert for a backend that may be full.
func (p *Processor) insertInto(f *Frame, t *conn.Table, k conn.Key, backend uint32) (*conn.Conn, counter.Reason) {
	if be := &p.t.Backends[backend]; be.MaxConnections != 0 && p.backendFull(backend, be) {
		return nil, counter.Limited
	}
	return p.insert(f, t, k, backend)
}

// pick returns the index of the backend that the service's scheduler picks, -1 if no backend
// accepts a new connection.
func (p *Processor) pick(m *packet.Meta, id uint32, s *Service) int {
	p.setSchedKey(m.Src, m.SrcPort, m.Dst, m.DstPort)
	for {
		at, turn := p.propose(id, s)
		if p.turns.Advance(id, turn, p.sched[id].Turn) {
			return at
		}
	}
}

// propose returns the index that the service's scheduler picks at the present turn, -1 if none, and
// that turn. The next turn is in the scheduler's state, for the caller to publish. If another
// worker is faster, the caller asks again; one of them always succeeds.
func (p *Processor) propose(id uint32, s *Service) (at int, turn uint64) {
	st := &p.sched[id]
	turn = p.turns.Of(id)
	st.Turn = turn
	return s.Scheduler.Pick(st, p.loads, &p.schedKey), turn
}

// setSchedKey sets the key that the scheduler is called with.
func (p *Processor) setSchedKey(client packet.Addr, clientPort uint16, vip packet.Addr, vipPort uint16) {
	k := &p.schedKey
	k.Client[0], k.Client[1], k.VIP[0], k.VIP[1] = client.Hi, client.Lo, vip.Hi, vip.Lo
	k.ClientPort, k.VIPPort, k.IPv4 = clientPort, vipPort, client.Is4()
}

// usable reports whether persistence may send a client to the backend. Weight 0 does not matter
// here; being down, evicted or removed does.
func (p *Processor) usable(backend uint32) bool {
	b := &p.t.Backends[backend]
	return b.Configured && !b.Evict && b.Up
}

// insert inserts a connection to the backend into the table. If it fails, it returns nil and the
// reason.
func (p *Processor) insert(f *Frame, t *conn.Table, k conn.Key, backend uint32) (*conn.Conn, counter.Reason) {
	m, be := &f.meta, &p.t.Backends[backend]
	port := be.Port
	if port == 0 {
		port = m.DstPort
	}
	if reason := p.mustNotReach(f, be); reason != counter.None {
		return nil, reason
	}
	var flags conn.Flags
	if m.Proto == uint8(service.UDP) {
		flags = conn.IsUDP
	}
	switch {
	case be.Mode == service.FullNAT:
		flags |= conn.Translated
	case be.Mode != service.NAT:
		flags |= conn.NoOutput
	case p.tupleInUse(f, t, be.Addr, port):
		return nil, counter.TupleTaken
	}
	c := t.Insert(f.home, m.Src, k, be.Addr, port, flags, p.now)
	if c == nil {
		return nil, counter.TableFull
	}
	c.Backend = backend
	c.Expires = p.now + newMs
	if flags&conn.Translated != 0 {
		displaced := p.Packets.Displaced
		if reason := p.assignPort(t, c, be.Addr); reason != counter.None {
			t.Remove(c)
			return nil, reason
		}
		if p.Packets.Displaced != displaced {
			p.noteFull(f)
		}
		if p.syns.kept {
			p.keepSYN(c, f.Mem, int(m.L3), int(m.L4), int(m.End))
		}
	}
	if flags&conn.IsUDP != 0 {
		c.State = conn.UDP
	}
	if flags&conn.NoOutput != 0 {
		c.Extra = p.openedAt()
	}
	p.began(t, c)
	if be.Mode.RepliesThroughUs() {
		p.neighbourHints.record(f, m.Src, int(m.L2), m.VLAN)
	}
	p.loads.Add(p.worker, backend, 0, 1)
	p.Packets.ConnOpened++
	p.Backends[backend].Connections++
	return c, counter.None
}

// tupleInUse reports whether the backend has a connection with this client address and port through
// another service. It removes a connection that is over.
func (p *Processor) tupleInUse(f *Frame, t *conn.Table, backend packet.Addr, port uint16) bool {
	m := &f.meta
	c := t.FindReply(f.home, m.Src, m.SrcPort, backend, port, m.Proto == uint8(service.UDP), p.now)
	if c == nil {
		return false
	}
	if !isNew(c, m) {
		return true
	}
	p.close(t, c)
	t.Remove(c)
	return false
}

// advance applies a packet to the connection's state and restarts its timer. Nearly all packets
// change no state.
func (p *Processor) advance(c *conn.Conn, s *Service, d conn.Direction, tcpFlags uint8) {
	if !midConnection(c, tcpFlags) {
		p.changeState(c, d, tcpFlags)
	}
	c.Expires = p.now + s.TimeoutsMs[c.State]
	if c.Flags&conn.NoOutput != 0 && c.Ended() {
		c.Expires = p.now + min(s.TimeoutsMs[c.State], mostMs(p.share.Used()))
	}
}

// midConnection reports whether a packet with these flags leaves the connection in its state:
// ESTABLISHED without SYN, FIN and RST, or UDP.
func midConnection(c *conn.Conn, tcpFlags uint8) bool {
	return 1<<c.State&(1<<conn.Established|1<<conn.UDP) != 0 && tcpFlags&(packet.SYN|packet.FIN|packet.RST) == 0
}

// changeState enters the state that the packet leads to.
func (p *Processor) changeState(c *conn.Conn, d conn.Direction, tcpFlags uint8) {
	next := c.State.Next(d, tcpFlags)
	if tcpFlags&(packet.SYN|packet.FIN) != 0 {
		next = c.Confirmed(next, d, tcpFlags)
	}
	p.enter(c, next)
}

// enter sets the state of the connection and counts it as active or inactive accordingly.
func (p *Processor) enter(c *conn.Conn, s conn.State) {
	if active := s.Active(); active != c.Counted() {
		by := int32(1)
		if !active {
			by = -1
		}
		p.loads.Add(p.worker, c.Backend, by, -by)
	}
	if c.EndedIn(s) != c.Ended() {
		p.endsOrReturns(c, s)
	}
	c.State = s
}

// expired is called by the table for an entry with an expired timer. It reports whether the entry
// stays.
func (p *Processor) expired(t *conn.Table, c *conn.Conn) (keep bool) {
	switch {
	case p.beginIdleReset(t, c):
		return true
	case !c.IsTemplate():
		p.close(t, c)
		return false
	case c.Refs() > 0: // connections under it exist
		c.Expires = p.now + templateGraceMs
		return true
	}
	p.templates[c.Backend]--
	return false
}

// close removes the connection from all counts, before it is removed from the table.
func (p *Processor) close(t *conn.Table, c *conn.Conn) {
	p.Packets.ConnClosed++
	p.uncount(c)
	if c.Counted() {
		p.loads.Add(p.worker, c.Backend, -1, 0)
	} else {
		p.loads.Add(p.worker, c.Backend, 0, -1)
	}
	if s := &p.t.Services[c.Service()]; p.t.SourceCounts != nil && !slices.Contains(s.Sorry, c.Backend) {
		p.releaseSource(c.Service(), s, t.Client(c))
	}
	if c.Flags&conn.Translated != 0 {
		p.releasePort(c)
	}
	if p.misplaced.any() {
		p.misplaced.end(t.Client(c), c.Key())
	}
	if c.Flags&conn.HasTemplate == 0 {
		return
	}
	if tp := p.findTemplate(t, t.Client(c), c.Proto(), c.Service(), c.VIPPort()); tp != nil {
		tp.Unref()
	}
}

// template returns the client's persistence template, nil if there is none.
func (p *Processor) template(t *conn.Table, m *packet.Meta, id uint32, s *Service) *conn.Conn {
	return p.findTemplate(t, m.Src, m.Proto, id, m.DstPort)
}

// findTemplate returns the template of a client, nil if there is none. A service with many ports
// has one template per client for all of them.
func (p *Processor) findTemplate(t *conn.Table, client packet.Addr, proto uint8, id uint32, vipPort uint16) *conn.Conn {
	if !p.t.Services[id].Ports.Single() {
		vipPort = 0
	}
	return t.Find(t.Home(p.seed.Hash(client, 0, proto)), client, conn.TemplateKey(id, vipPort), p.now)
}

// bindTemplate counts a new connection under its client's template, sets the template to the
// connection's backend and restarts its timer. It makes the template if there is none; if the table
// has no space for it, the connection stays without one.
func (p *Processor) bindTemplate(t *conn.Table, m *packet.Meta, c *conn.Conn, s *Service) {
	id, vipPort := c.Service(), m.DstPort
	if !s.Ports.Single() {
		vipPort = 0
	}
	home := t.Home(p.seed.Hash(m.Src, 0, m.Proto))
	k := conn.TemplateKey(id, vipPort)
	tp := t.Find(home, m.Src, k, p.now)
	if tp == nil {
		if tp = t.Insert(home, m.Src, k, packet.Addr{}, 0, c.Flags&conn.IsUDP, p.now); tp == nil {
			return
		}
		p.templates[c.Backend]++
	} else if tp.Backend != c.Backend {
		p.templates[tp.Backend]--
		p.templates[c.Backend]++
	}
	tp.Backend = c.Backend
	tp.Expires = p.now + s.PersistMs
	tp.Ref()
	c.Flags |= conn.HasTemplate
}
