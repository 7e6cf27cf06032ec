package pipeline

import (
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
)

// Class says what a frame is to the pipeline.
type Class uint8

// The classes.
const (
	Unclassified   Class = iota // it cannot be parsed
	ToService                   // client to service
	FromBackend                 // backend to client
	ErrorToBackend              // ICMP error about a packet to the client
	ErrorToClient               // ICMP error about a packet to the backend
	Echo                        // ICMP echo request to a VIP that the kernel does not have
	NoService                   // to such a VIP, but to no service
)

// Observation is what a worker knows of a frame before it processes it.
type Observation struct {
	Meta      packet.Meta
	Reason    counter.Reason // why it cannot be parsed: then nothing else is valid
	Class     Class
	Service   uint32 // id; for ToService and ErrorToBackend
	Ownership Ownership
	Owner     int         // worker that the frame would be handed to, or the observing worker
	Conn      conn.Conn   // a copy of the connection, if Known
	Client    packet.Addr // of the connection, if Known
	Known     bool        // the observing worker has the connection
}

// Observe returns what the worker knows of the frame. It changes nothing but the tables in use.
// Only the owning goroutine may call it.
func (p *Processor) Observe(f Frame, t *Tables, nowMs uint32) (s Observation) {
	if p.now = nowMs; p.t != t {
		p.useTables(t)
	}
	f.Verdict, f.Reason = Drop, counter.None
	was := p.observing
	p.observing = true
	defer func() { p.observing = was }()
	one := [1]Frame{f}
	g := &one[0]
	p.classifySlow(g)
	if s.Reason = g.Reason; s.Reason != counter.None {
		return s
	}
	if s.Owner = p.worker; g.Verdict == HandOver {
		s.Owner = int(g.Worker)
		g.Hops = finalHop
		p.classifySlow(g)
	}
	s.Meta, s.Class = g.meta, Class(g.kind)
	if s.Class == ToService && p.misplaced.any() {
		k := conn.Key{Service: g.service, ClientPort: g.meta.SrcPort, VIPPort: g.meta.DstPort}
		if flow, is := p.misplaced.find(g.meta.Src, k); is && p.misplaced.living.Lives(flow.number) {
			s.Owner = flow.worker
		}
	}
	switch s.Class {
	case ToService, ErrorToBackend:
		s.Service, s.Ownership = g.service, t.Services[g.service].Ownership
	case FromBackend, ErrorToClient:
		s.Ownership = p.replyOwner(g)
	case Echo, NoService:
		s.Ownership = ByReceiver
	}
	p.Refresh(&s, nowMs)
	return s
}

// finalHop is a number of hops with which a frame is not handed over.
const finalHop = 255

// The kinds of the slow path are the classes.
var (
	_ [ToService - Class(kindForward)]struct{}
	_ [FromBackend - Class(kindReply)]struct{}
	_ [ErrorToBackend - Class(kindICMPIn)]struct{}
	_ [ErrorToClient - Class(kindICMPOut)]struct{}
	_ [Echo - Class(kindEcho)]struct{}
	_ [NoService - Class(kindNoService)]struct{}
)

// Refresh brings the connection of the observation up to date. Only the owning goroutine may call
// it.
func (p *Processor) Refresh(s *Observation, nowMs uint32) {
	m := &s.Meta
	if s.Class == Unclassified {
		return
	}
	var c *conn.Conn
	t := p.table(m)
	home := func(client packet.Addr, port uint16) conn.Home { return t.Home(p.seed.Hash(client, port, m.Proto)) }
	switch s.Class {
	case ToService:
		c = t.Peek(home(m.Src, m.SrcPort), m.Src, conn.Key{Service: s.Service, ClientPort: m.SrcPort, VIPPort: m.DstPort}, nowMs)
	case ErrorToBackend:
		c = t.Peek(home(m.Dst, m.DstPort), m.Dst, conn.Key{Service: s.Service, ClientPort: m.DstPort, VIPPort: m.SrcPort}, nowMs)
	case FromBackend:
		c = p.peekReply(t, m.Dst, m.DstPort, m.Src, m.SrcPort, m.Proto, nowMs)
	case ErrorToClient:
		c = p.peekReply(t, m.Src, m.SrcPort, m.Dst, m.DstPort, m.Proto, nowMs)
	}
	if s.Known = c != nil; s.Known {
		s.Conn, s.Client = *c, t.Client(c)
	}
}

// peekReply is findReply without any change to the table.
func (p *Processor) peekReply(t *conn.Table, client packet.Addr, clientPort uint16, backend packet.Addr, port uint16, proto uint8, nowMs uint32) *conn.Conn {
	if source := p.t.sourceAt(client); source != 0 {
		return p.translated(t, uint8(source-1), clientPort, backend, port, proto, nowMs)
	}
	home := t.Home(p.seed.Hash(client, clientPort, proto))
	return t.PeekReply(home, client, clientPort, backend, port, proto == uint8(service.UDP), nowMs)
}

// Overhead returns the number of bytes that the backend's mode adds to a packet.
func (be *Backend) Overhead() int { return int(be.overhead()) }
