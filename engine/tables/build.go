// Package tables builds what the workers read from a configuration and what is known of its surroundings.
package tables

import (
	"fmt"
	"net/netip"
	"time"

	"sluice/conf"
	"sluice/engine/health/policy"
	"sluice/pipeline"
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/nexthop"
	"sluice/pipeline/packet"
	"sluice/pipeline/sched"
	"sluice/pipeline/service"
)

// Input is everything that the packet path's tables follow from.
type Input struct {
	Config *conf.Config
	IDs    *IDs                            // has numbers for all of Config
	Health *policy.State                   // of Config: availability and weights of backends
	Hops   *nexthop.Table                  //
	Source func(dst netip.Addr) netip.Addr // our address towards a tun backend
	Cache  *SchedulerCache
	SNAT   *SNAT

	Locals      []netip.Addr  // addresses of this host
	KernelPorts service.Ports // that its kernel takes for connections of its own

	Probed, Probers []service.Key // steer.Rules'

	Spread bool // one RX queue per worker: flows whose replies don't ask for the client's worker stay where they arrive
}

// Build makes the tables: a function of the plan alone, so that equal plans give equal tables.
func Build(p Input) (*pipeline.Tables, error) {
	services := make([]pipeline.Service, len(p.IDs.Service))
	backends := make([]pipeline.Backend, len(p.IDs.Backend))
	for id, s := range p.IDs.Service {
		if id > 0 {
			services[id] = serviceOf(&s)
		}
	}
	for id, b := range p.IDs.Backend {
		if id > 0 {
			backends[id] = p.backendOf(b)
		}
	}
	configured := make(map[service.Key]bool, len(p.Config.Services))
	for i := range p.Config.Services {
		s := &p.Config.Services[i]
		configured[s.Key] = true
		if err := p.fillPool(s, services, backends); err != nil {
			return nil, fmt.Errorf("service %s: %w", s.Name, err)
		}
	}
	p.Cache.forget(configured)
	p.shareOwnership(services, backends)
	local, pools := p.SNAT.tables(p.IDs, p.Locals, p.KernelPorts)
	return pipeline.NewTables(services, backends, p.Hops, local, pools), nil
}

func serviceOf(s *conf.Service) pipeline.Service {
	return pipeline.Service{
		Addr: packet.AddrFrom(s.Key.Address), Ports: s.Key.Ports, Proto: uint8(s.Key.Protocol),
		TimeoutsMs: timeoutsMs(s.Timeouts),
		PersistMs:  ms(s.Persistence),
	}
}

func (p *Input) backendOf(b BackendEntry) pipeline.Backend {
	out := pipeline.Backend{
		Addr: packet.AddrFrom(b.ID.Backend.Address),
		Port: b.ID.Backend.Port, Mode: b.Mode,
		Up: !p.Health.Down(b.ID), Evict: p.Health.Evicts(b.ID),
	}
	link, reason := p.Hops.Lookup(out.Addr)
	if out.Unreach = reason; reason == counter.None {
		out.Link = *link
	}
	if b.Mode == service.TUN {
		src := p.Source(b.ID.Backend.Address)
		out.Source = packet.AddrFrom(src)
		if !src.IsValid() && reason == counter.None {
			out.Unreach = counter.NoRoute
		}
	}
	return out
}

// fillPool makes the service and its backends live. Backends stand in the scheduler's list with the
// latest first, because that is where IPVS puts a new destination (ip_vs_ctl.c, __ip_vs_add_dest).
func (p *Input) fillPool(s *conf.Service, services []pipeline.Service, backends []pipeline.Backend) error {
	live := &services[p.IDs.services[s.Key]]
	candidates := make([]sched.Candidate, 0, len(s.Backends))
	shares := make([]int, 0, len(s.Backends))
	for i := len(s.Backends) - 1; i >= 0; i-- {
		b := &s.Backends[i]
		name := s.Key.BackendID(b.Key)
		for _, id := range p.IDs.All(name) {
			backends[id].Configured = true
		}
		id := p.IDs.backends[Backend{name, b.Mode}]
		live.Backends = append(live.Backends, id)
		state, _ := p.Health.Backend(name)
		candidates = append(candidates, sched.Candidate{
			ID: id, Weight: uint32(state.Weight), LastWeight: uint32(p.IDs.Backend[id].Last), Up: backends[id].Up,
			Key: netip.AddrPortFrom(b.Key.Address, b.Key.Port),
		})
		shares = append(shares, state.SlowStart)
	}
	scale(candidates, shares)
	if s.Sorry != nil {
		candidates = p.addSorry(s, live, backends, candidates)
	}
	var err error
	live.Configured = true
	live.Scheduler, err = p.Cache.scheduler(s.Key, s.Scheduler, candidates, p.Config.Engine.HashKey)
	return err
}

// addSorry makes the service's sorry server live, and the only one to choose while no backend is
// up. The pool has it at any time, because who owns the service's connections depends on all of its
// servers; the choice has not, because with some schedulers a server without weight is still
// somebody's.
func (p *Input) addSorry(s *conf.Service, live *pipeline.Service, backends []pipeline.Backend, candidates []sched.Candidate) []sched.Candidate {
	b := s.Sorry
	name := s.Key.BackendID(b.Key)
	for _, id := range p.IDs.All(name) {
		backends[id].Configured = true
	}
	id := p.IDs.backends[Backend{name, b.Mode}]
	if !p.Health.SorryInUse(s.Key) {
		live.Backends = append(live.Backends, id)
		return candidates
	}
	live.Backends = append([]uint32{id}, live.Backends...)
	return []sched.Candidate{{ID: id, Weight: 1, LastWeight: 1, Up: true, Key: netip.AddrPortFrom(b.Key.Address, b.Key.Port)}}
}

// shareOwnership says by which hash each service's connections are owned. Replies only tell the
// backend they come from, so services that share a backend must agree: one that is sticky makes its
// neighbours so.
func (p *Input) shareOwnership(services []pipeline.Service, backends []pipeline.Backend) {
	type endpoint struct {
		addr  packet.Addr
		port  uint16
		proto uint8
	}
	sticky := make(map[endpoint]bool)
	for changed := true; changed; {
		changed = false
		for i := range services {
			s := &services[i]
			own := s.PersistMs > 0
			for _, id := range s.Backends {
				own = own || sticky[endpoint{backends[id].Addr, backends[id].Port, s.Proto}]
			}
			if !own || s.Ownership == pipeline.ByAddress {
				continue
			}
			s.Ownership, changed = pipeline.ByAddress, true
			for _, id := range s.Backends {
				sticky[endpoint{backends[id].Addr, backends[id].Port, s.Proto}] = true
			}
		}
	}
	for i := range services {
		s := &services[i]
		if p.Spread && s.Configured && s.Ownership == pipeline.ByFlow {
			s.Ownership = p.IDs.ownership(uint32(i), len(s.Backends), oneWay(s, backends))
		}
		if s.Configured {
			s.Moved = p.IDs.hasMoved(uint32(i), s.Ownership)
		}
	}
}

// oneWay says that no backend's replies have to find the client's worker by the client: they bypass
// us, or come to a local port (fullnat), which says whose they are.
func oneWay(s *pipeline.Service, backends []pipeline.Backend) bool {
	for _, id := range s.Backends {
		if backends[id].Mode == service.NAT {
			return false
		}
	}
	return true
}

func ms(d time.Duration) uint32 { return uint32(d / time.Millisecond) }

func timeoutsMs(t conf.Timeouts) [conn.StateCount]uint32 {
	return [conn.StateCount]uint32{
		conn.StateNone:   ms(t.TCPNone),
		conn.Established: ms(t.TCPEstablished),
		conn.SynSent:     ms(t.TCPSynSent),
		conn.SynRecv:     ms(t.TCPSynRecv),
		conn.FinWait:     ms(t.TCPFinWait),
		conn.TimeWait:    ms(t.TCPTimeWait),
		conn.Close:       ms(t.TCPClose),
		conn.CloseWait:   ms(t.TCPCloseWait),
		conn.LastAck:     ms(t.TCPLastAck),
		conn.Listen:      ms(t.TCPListen),
		conn.SynAck:      ms(t.TCPSynAck),
		conn.UDP:         ms(t.UDP),
	}
}

// scale multiplies the weights of a pool, so that starting backends can have a part of theirs:
// shares is by position, in policy.WeightSteps, 0 for all. Heavy weights are multiplied by less, and the
// heaviest by 1.
func scale(pool []sched.Candidate, shares []int) {
	heaviest := uint32(1)
	starting := false
	for i := range pool {
		heaviest = max(heaviest, pool[i].Weight, pool[i].LastWeight)
		starting = starting || shares[i] != 0
	}
	if !starting {
		return
	}
	by := min(policy.WeightSteps, sched.MaxWeight/heaviest)
	for i := range pool {
		c := &pool[i]
		c.Weight, c.LastWeight = c.Weight*by, c.LastWeight*by
		if shares[i] != 0 && c.Weight > 0 {
			c.Weight = max(1, c.Weight*uint32(shares[i])/policy.WeightSteps)
		}
	}
}
