package pipeline

import (
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/rewrite"
	"sluice/pipeline/service"
)

// A client's TCP segment in the middle of a connection that no worker has is adopted where the
// service's scheduler is a hash and the backend gets the client's own packets (Service.Adopt): it
// opens an entry at the backend that the hash names. So connections outlive a restart of Sluice,
// and a change of the box that the routers in front send them to. IPVS does so with sloppy_tcp.
//
// After a change of the backends the scheduler before is asked first, for the connections that are
// older than the change (Service.Earlier).
//
// For a service without Adopt that has all backends in mode tun or dr, the same holds while it is
// under pressure (pressure.go): its connections may have been opened without an entry.
//
// Beyond the limit of Options.AdoptPerSecond, or without space in the table, such a segment is
// forwarded untracked: by the hash, without an entry. So is a RST, since it ends the connection,
// and an ICMP error of a client that no worker has a connection of.

// adopt handles a client's segment without SYN, or with RST, that belongs to no connection of this
// worker. It returns the connection that it opens; if there is none, the frame's verdict is set.
func (p *Processor) adopt(f *Frame, t *conn.Table, k conn.Key, s *Service) *conn.Conn {
	m := &f.meta
	if p.handToAdopter(f, s) {
		return nil
	}
	backend := p.untrackedBackend(t, m, k, s)
	if backend == 0 {
		p.answer(f, counter.NoBackend)
		return nil
	}
	if m.TCPFlags&packet.RST != 0 || !p.adoptions.Allow(p.now, p.adoptPerSecond, p.adoptPerSecond) {
		p.forwardUntracked(f, backend)
		return nil
	}
	c := p.track(f, t, k, backend)
	if c == nil {
		return nil
	}
	p.Packets.Adopted++
	if s.PersistMs != 0 {
		p.bindTemplate(t, m, c, s)
	}
	return c
}

// track opens a connection by a packet that is not the first of its flow. If there is no space for
// it, the packet is forwarded without one, and nil returned.
func (p *Processor) track(f *Frame, t *conn.Table, k conn.Key, backend uint32) *conn.Conn {
	p.refusals(k.Service).Second++
	var c *conn.Conn
	if p.admit(f, t, k.Service) {
		c, _ = p.insert(f, t, k, backend)
	}
	switch {
	case c == nil:
		p.forwardUntracked(f, backend)
		return nil
	case f.meta.Proto == uint8(service.TCP) && f.meta.TCPFlags&packet.SYN == 0:
		p.enter(c, conn.Established)
	}
	p.countSource(c, f.meta.Src)
	return c
}

// handToAdopter hands a frame of no connection to the other workers that may have it, and then to
// the one that is to open it. It reports whether it did.
func (p *Processor) handToAdopter(f *Frame, s *Service) bool {
	if p.workers == 1 || p.asked(f) {
		return false
	}
	// The round ends where it began: at the receiver, or before the owner if that is another
	// worker.
	if (s.Moved || s.Ownership == ByReceiver) && p.handToNextWorker(f, p.mostAsked()) {
		return true
	}
	m := &f.meta
	owner, hashed := s.Ownership.hashed(p.seed, m.Src, m.SrcPort, m.Proto, p.workers)
	if !hashed || owner == p.worker {
		return false
	}
	p.handTo(f, owner)
	return true
}

// mostAsked is how often a frame is handed on until all workers have been asked for its connection.
func (p *Processor) mostAsked() int { return min(p.workers, finalHop-2) }

// asked reports whether all workers have been asked for the connection of a frame.
func (p *Processor) asked(f *Frame) bool { return int(f.Hops) > p.mostAsked() }

// adopts reports whether a segment of an unknown connection belongs to the backend that a hash
// names: always, or because connections of the service were opened without an entry lately.
func (p *Processor) adopts(id uint32, s *Service) bool {
	return s.Adopt || s.oneWay && (s.Earlier != nil || p.tally.Pressed(id, p.now))
}

// noEntry handles a packet that would open a connection, for which the table has no entry: it is
// forwarded by the hash, or dropped where there is none.
func (p *Processor) noEntry(f *Frame, t *conn.Table, k conn.Key, s *Service) {
	if s.Adopt || s.oneWay {
		if backend := p.untrackedBackend(t, &f.meta, k, s); backend != 0 {
			p.forwardUntracked(f, backend)
			return
		}
	}
	f.drop(counter.TableFull)
}

// untrackedBackend returns the backend of a client's connection without an entry: that of its
// persistence template, or the one that the hash names; 0: there is none.
func (p *Processor) untrackedBackend(t *conn.Table, m *packet.Meta, k conn.Key, s *Service) uint32 {
	if s.PersistMs != 0 {
		if template := p.template(t, m, k.Service, s); template != nil && p.usable(template.Backend) {
			return template.Backend
		}
	}
	return p.hashed(k.Service, s, m.Src, m.SrcPort, m.Dst, m.DstPort)
}

// hashed returns the backend that a hash names, or named before a change, for a client's connection
// to a service with Adopt or oneWay; 0: it has none.
func (p *Processor) hashed(id uint32, s *Service, client packet.Addr, clientPort uint16, vip packet.Addr, vipPort uint16) uint32 {
	p.setSchedKey(client, clientPort, vip, vipPort)
	if backend := p.earlier(id, s); backend != 0 {
		return backend
	}
	if at := s.Scheduler.ByHash(p.seed.Hash(client, clientPort, s.Proto), &p.schedKey); at >= 0 {
		return s.Backends[at]
	}
	return 0
}

// earlier returns the backend that the service had for the client before a change, if existing
// connections to it go on; else 0. The caller has called setSchedKey.
func (p *Processor) earlier(id uint32, s *Service) uint32 {
	if e := s.Earlier; e != nil {
		if at := e.Scheduler.Pick(&p.sched[id], p.loads, &p.schedKey); at >= 0 && p.continues(e.Backends[at]) {
			return e.Backends[at]
		}
	}
	return 0
}

// continues reports whether existing connections to the backend go on.
func (p *Processor) continues(backend uint32) bool {
	return backend != 0 && !p.t.Backends[backend].Evict
}

// forwardUntracked sends a client's packet to a backend of mode tun or dr without a connection, or
// drops or answers it.
func (p *Processor) forwardUntracked(f *Frame, backend uint32) {
	m, be := &f.meta, &p.t.Backends[backend]
	if reason := p.mustNotReach(f, be); reason != counter.None {
		f.drop(reason)
		return
	}
	length := m.End - m.L3
	if be.Unreach != counter.None || m.TTL <= 1 || length > be.maxLength {
		p.undeliverable(f, be)
		return
	}
	count := &p.Backends[backend]
	count.InPackets++
	count.InBytes += uint64(length)
	p.countUntracked(f, backend)
	rewrite.DecTTL(f.Mem, m)
	if be.Mode == service.TUN {
		p.ipID++
		rewrite.Encap(f.Mem, m, be.Source, be.Addr, p.ipID)
	}
	f.send(m, &be.Link)
}

// countUntracked counts a packet that is forwarded to the backend without a connection.
func (p *Processor) countUntracked(f *Frame, backend uint32) {
	f.untracked = backend
	p.Packets.Untracked++
}
