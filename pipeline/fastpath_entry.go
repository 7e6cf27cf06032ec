package pipeline

import (
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/rewrite"
	"sluice/pipeline/service"
)

// fastEntry is everything that the fast path needs to know of a backend: one cache line for each
// direction.
type fastEntry struct {
	maxLength uint16     // longest packet that may pass, in bytes; 0: the backend has no fast entry
	state     conn.State // of an established connection
	mode      service.Mode
	proto     uint8
	idleMs    uint32
	link      rewrite.Link
	in        rewrite.End // nat, fullnat: the backend's address and port

	// Of a new connection:
	port     uint16 // the backend's
	opened   conn.State
	flags    conn.Flags
	openedMs uint32

	out    rewrite.End // nat, fullnat: the service's address and port
	tunnel rewrite.Tunnel
}

// buildFastEntries makes an entry for each backend with one service of one port: all packets to it
// are rewritten in the same way. It also decides which services the fast path opens connections
// for.
func (t *Tables) buildFastEntries() {
	t.fastEntries = make([]fastEntry, len(t.Backends))
	served := make([]bool, len(t.Backends))
	for i := range t.Services {
		t.fillFastEntries(&t.Services[i], served)
	}
}

// fillFastEntries makes the entries of a service's backends. served is by backend id, true for
// backends that have been filled in.
func (t *Tables) fillFastEntries(s *Service, served []bool) {
	s.fastOpen, s.limited, s.oneWay = false, s.Limits != Limits{}, true
	for _, id := range s.Backends {
		l, be := &t.fastEntries[id], &t.Backends[id]
		if served[id] || !s.Configured || !s.Ports.Single() || !be.Configured || be.Evict || be.Unreach != counter.None || be.Link.VLAN != 0 {
			*l = fastEntry{}
		} else {
			*l = newFastEntry(s, be)
		}
		served[id] = true
		s.fastOpen, s.limited = s.fastOpen || l.maxLength > 0, s.limited || be.MaxConnections != 0
		s.oneWay = s.oneWay && !be.Mode.RepliesThroughUs()
	}
	s.marks = s.Adopt && s.PersistMs == 0 && !s.limited
	s.fastOpen = s.fastOpen && s.PersistMs == 0 && !s.limited && (s.Earlier == nil || s.marks)
}

// newFastEntry returns the entry of a backend of the service.
func newFastEntry(s *Service, be *Backend) fastEntry {
	l := fastEntry{maxLength: be.maxLength, state: conn.Established, mode: be.Mode, proto: s.Proto, link: be.Link, port: be.Port}
	l.opened = conn.StateNone.Next(conn.Input, packet.SYN)
	if s.Proto == uint8(service.UDP) {
		l.state, l.opened, l.flags = conn.UDP, conn.UDP, conn.IsUDP
	}
	l.idleMs, l.openedMs = s.TimeoutsMs[l.state], s.TimeoutsMs[l.opened]
	if l.port == 0 {
		l.port = s.Ports.First
	}
	if be.Mode.RepliesThroughUs() {
		l.in = rewrite.NewEnd(s.Addr, s.Ports.First, be.Addr, l.port)
		l.out = rewrite.NewEnd(be.Addr, l.port, s.Addr, s.Ports.First)
	} else {
		l.flags |= conn.NoOutput
	}
	switch be.Mode {
	case service.FullNAT:
		l.flags |= conn.Translated
	case service.TUN:
		l.tunnel = rewrite.NewTunnel(be.Source, be.Addr)
	}
	return l
}
