package pipeline

import (
	"sluice/pipeline/access"
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
)

// Lists deny clients of new connections. They are asked where a connection opens and nowhere else,
// so that packets of established connections cost nothing. When lists change, a walk over all
// connections, that of the RST probes, ends those of clients that are denied now:
//
//	TCP nat fullnat  both ends are reset, like those of an evicted connection (eviction.go)
//	others           the connection is forgotten; further packets would open one, and are dropped

// Lists are what denies clients of a service; nil: all are allowed. Both must allow a client.
type Lists struct {
	All *access.Table // of all services
	Own *access.Table // of this one
}

// deny reports whether one of the lists denies the client.
func (l *Lists) deny(client packet.Addr) bool {
	return l.All != nil && l.All.Denies(client) || l.Own != nil && l.Own.Denies(client)
}

// denied drops a packet of a client that may not open a connection to the service, and reports
// whether it did.
//
//go:noinline
func (p *Processor) denied(f *Frame, client packet.Addr) bool {
	if !p.t.Services[f.service].Lists.deny(client) {
		return false
	}
	f.drop(counter.AccessDenied)
	p.refusals(f.service).Denied++
	return true
}

// denyOpenings drops the SYNs of a batch that lists deny, before their flows are looked for. It
// loads the lines of the lists first, so that the cache misses of the batch overlap.
//
//go:noinline
func (p *Processor) denyOpenings(frames []Frame) {
	sum := uint32(0)
	for i := range frames {
		if f := &frames[i]; p.isOpening(f) {
			l := &p.t.Services[f.service].Lists
			client := p.clientOf(f)
			if l.All != nil {
				sum += l.All.Touch(client)
			}
			if l.Own != nil {
				sum += l.Own.Touch(client)
			}
		}
	}
	for i := range frames {
		if f := &frames[i]; p.isOpening(f) {
			p.deniedFast(f)
		}
	}
	p.fetched += uint64(sum)
}

// isOpening reports whether the frame is a SYN for the fast path to a service with lists.
func (p *Processor) isOpening(f *Frame) bool {
	return (f.kind == kindFastOpen4 || f.kind == kindFastOpen6) && p.t.Services[f.service].guarded
}

// clientOf returns the source of a frame that classifyFast has classified.
func (p *Processor) clientOf(f *Frame) packet.Addr {
	if f.kind >= kindFastForward6 {
		client, _, _ := f.headers().Ends6()
		return client
	}
	client, _, _ := f.headers().Ends4()
	return packet.AddrFrom4(client)
}

// deniedFast is denied for a SYN that classifyFast has classified.
func (p *Processor) deniedFast(f *Frame) bool {
	h := f.headers()
	if f.kind >= kindFastForward6 {
		client, vip, _ := h.Ends6()
		if packet.Martian6(client, vip) || !p.denied(f, client) {
			return false
		}
	} else if client, vip, _ := h.Ends4(); packet.Martian4(client, vip) || !p.denied(f, packet.AddrFrom4(client)) {
		return false
	}
	f.home = 0
	return true
}

// refusals returns the counters of a service.
func (p *Processor) refusals(id uint32) *counter.Service {
	c := &p.Services[id]
	if of := p.t.Services[id].identity; c.Of != of {
		*c = counter.Service{Of: of}
	}
	return c
}

// endsDenied reports whether the connection ends because its client is denied.
func (p *Processor) endsDenied(t *conn.Table, c *conn.Conn) bool {
	return p.rstProbes.lists && p.t.Services[c.Service()].Lists.deny(t.Client(c))
}

// Identity returns a number that tells the service apart from others that had the same id.
func (s *Service) Identity() uint64 { return s.identity }

// identify sets the identity.
func (s *Service) identify() {
	const prime = 0x9e3779b97f4a7c15
	h := (s.Addr.Hi^prime)*prime ^ s.Addr.Lo
	h = (h^h>>29)*prime ^ uint64(s.Ports.First)<<32 ^ uint64(s.Ports.Last)<<8 ^ uint64(s.Proto)
	s.identity = max(1, (h^h>>32)*prime)
}
