package pipeline

import (
	"slices"

	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/service"
)

// Limits are asked where a connection opens, after the lists. They hold for all workers together.
// A connection beyond a limit goes to the sorry server of the service, or is dropped as limited. A
// service without limits pays one branch.

// Limits are those of a service; 0: none.
type Limits struct {
	Connections  uint32 // that are active, in the sense of IPVS; UDP: all
	NewPerSecond uint32
}

// overLimit reports whether a new connection of the service would exceed a limit, and counts it if
// so.
//
//go:noinline
func (p *Processor) overLimit(id uint32, s *Service) bool {
	switch {
	case s.Limits.Connections != 0 && p.serviceFull(id, s):
		p.refusals(id).Limited[counter.LimitConnections]++
	case s.Limits.NewPerSecond != 0 && !p.turns.Admit(id, p.now, s.Limits.NewPerSecond):
		p.refusals(id).Limited[counter.LimitNewPerSecond]++
	default:
		return false
	}
	return true
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

// beyondLimit handles the first packet of a connection beyond a limit.
func (p *Processor) beyondLimit(f *Frame, t *conn.Table, k conn.Key, s *Service) *conn.Conn {
	if len(s.Sorry) > 0 {
		return p.insertBound(f, t, k, s.Sorry[0])
	}
	f.drop(counter.Limited)
	return nil
}
