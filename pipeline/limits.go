package pipeline

import (
	"slices"

	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
)

// Limits are asked where a connection opens, after the lists. They hold for all workers together.
// A connection beyond a limit goes to the sorry server of the service, or is dropped as limited. A
// service without limits pays one branch.

// Limits are those of a service; 0: none.
type Limits struct {
	Connections  uint32 // that are active, in the sense of IPVS; UDP: all
	NewPerSecond uint32

	SourceConnections  uint32 // of one source: counted until they are removed
	SourceNewPerSecond uint32
	// A source is the clients with this many first bits of their address in common.
	SourceBits4, SourceBits6 uint8
}

// bySource reports whether there are limits for each source.
func (l *Limits) bySource() bool { return l.SourceConnections|l.SourceNewPerSecond != 0 }

// overLimit reports whether a new connection of the client would exceed a limit of the service, and
// which, and counts it if so. If not, the client's source has one connection more: see
// releaseSource.
//
//go:noinline
func (p *Processor) overLimit(id uint32, s *Service, client packet.Addr) (l counter.Limit, over bool) {
	if s.Limits.Connections != 0 && p.serviceFull(id, s) {
		return p.exceeded(id, counter.LimitConnections)
	}
	switch p.admitSource(id, s, client) {
	case counter.SourceFull:
		return p.exceeded(id, counter.LimitSourceConnections)
	case counter.SourceFast:
		return p.exceeded(id, counter.LimitSourceNewPerSecond)
	}
	if s.Limits.NewPerSecond != 0 && !p.turns.Admit(id, p.now, s.Limits.NewPerSecond) {
		p.releaseSource(id, s, client)
		return p.exceeded(id, counter.LimitNewPerSecond)
	}
	return 0, false
}

// exceeded counts a new connection of the service beyond a limit, and returns the limit and true.
func (p *Processor) exceeded(id uint32, l counter.Limit) (counter.Limit, bool) {
	p.refusals(id).Limited[l]++
	return l, true
}

// admitSource decides about a new connection of the client by the limits of its source, and counts
// it there. A dry run does not count it.
func (p *Processor) admitSource(id uint32, s *Service, client packet.Addr) counter.SourceVerdict {
	if p.t.SourceCounts == nil || !s.Limits.bySource() {
		return counter.SourceAdmitted
	}
	source, l := p.source(id, s, client), &s.Limits
	if p.borrowed != nil {
		return p.t.SourceCounts.Peek(source, p.now, l.SourceConnections, l.SourceNewPerSecond)
	}
	return p.t.SourceCounts.Admit(source, p.now, l.SourceConnections, l.SourceNewPerSecond)
}

// countsSources reports whether the connections of each source of the service are counted. A dry
// run does not, because it would count for all workers.
func (p *Processor) countsSources(s *Service) bool {
	return p.t.SourceCounts != nil && s.Limits.bySource() && p.borrowed == nil
}

// source returns the number of a client's source at a service.
func (p *Processor) source(id uint32, s *Service, client packet.Addr) uint64 {
	if client.Is4() {
		client.Lo &= ^uint64(0) << (32 - s.Limits.SourceBits4)
	} else {
		bits := s.Limits.SourceBits6
		client.Hi &= ^uint64(0) << (64 - min(bits, 64))
		client.Lo &= ^uint64(0) << (64 - (max(bits, 64) - 64))
	}
	return p.seed.Hash(packet.Addr{Hi: client.Hi ^ uint64(id)<<32, Lo: client.Lo}, 0, s.Proto) | 1
}

// countSource counts a connection that opens whatever the limits are, for its client's source. It
// is an old one that is adopted or restored; those that open later pay for it.
func (p *Processor) countSource(c *conn.Conn, client packet.Addr) {
	if s := &p.t.Services[c.Service()]; p.countsSources(s) && !slices.Contains(s.Sorry, c.Backend) {
		p.t.SourceCounts.Admit(p.source(c.Service(), s, client), p.now, 0, 0)
	}
}

// releaseSource takes a connection from the count of its client's source: it has ended, or was not
// opened, or goes to the sorry server.
//
//go:noinline
func (p *Processor) releaseSource(id uint32, s *Service, client packet.Addr) {
	if p.countsSources(s) {
		p.t.SourceCounts.Release(p.source(id, s, client))
	}
}

// serviceFull reports whether the service has as many connections as it may have. It adds up those
// of all backends, but for the sorry server. As long as the sum is far below the limit, it adds
// them up only for some of the new connections: all workers together exceed the limit by a
// twentieth at most.
func (p *Processor) serviceFull(id uint32, s *Service) bool {
	c := p.refusals(id)
	if c.Spare > 0 && c.SpareMs == p.now {
		c.Spare--
		return false
	}
	sum := uint32(0)
	for _, backends := range [...][]uint32{s.Backends, s.Former} {
		for _, b := range backends {
			if slices.Contains(s.Sorry, b) {
				continue
			}
			load := p.loads.Of(b)
			if sum += load.Active; s.Proto == uint8(service.UDP) {
				sum += load.Inactive
			}
		}
	}
	if sum >= s.Limits.Connections {
		return true
	}
	c.Spare, c.SpareMs = (s.Limits.Connections-sum)/uint32(20*p.workers), p.now
	return false
}

// backendFull reports whether the backend has as many connections as it may have, as IPVS's
// overload flag does: from MaxConnections on, until there are fewer than MinConnections.
func (p *Processor) backendFull(id uint32, be *Backend) bool {
	load := p.loads.Of(id)
	n := load.Active + load.Inactive
	full := n >= be.MaxConnections || n >= be.lower && p.loads.Full(id)
	p.loads.SetFull(id, full || n+1 >= be.MaxConnections)
	return full
}

// beyondLimit handles the first packet of a connection beyond the limit.
func (p *Processor) beyondLimit(f *Frame, t *conn.Table, k conn.Key, s *Service, l counter.Limit) *conn.Conn {
	if len(s.Sorry) > 0 {
		return p.insertBound(f, t, k, s.Sorry[0])
	}
	f.limit = uint8(l)
	f.drop(counter.Limited)
	return nil
}
