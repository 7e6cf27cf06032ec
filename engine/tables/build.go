package tables

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"sluice/conf"
	"sluice/engine/health/policy"
	"sluice/pipeline"
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/sched"
	"sluice/pipeline/service"
)

// build returns the services and backends of the tables, by number, and updates the history of
// ownership and the schedulers. Numbers are assigned.
func (n *State) build(in *Input, changed bool) ([]pipeline.Service, []pipeline.Backend, error) {
	b := n.builder(in, make([]pipeline.Service, len(n.ids.services)), make([]pipeline.Backend, len(n.ids.backends)), changed)
	for number := 1; number < len(b.services); number++ {
		if s := &n.ids.services[number]; s.Key.Address.IsValid() {
			b.services[number] = serviceOf(s)
			b.services[number].Lists = in.Lists.Of(s.Key)
			b.services[number].Limits = limitsOf(&s.Limits)
		}
	}
	for number := 1; number < len(b.backends); number++ {
		if be := &n.ids.backends[number]; be.exists() {
			b.fillBackend(&b.backends[number], be)
		}
	}
	for i := range b.config.Services {
		s := &b.config.Services[i]
		if err := b.configure(s, &n.ids.numbers[i], in.Health.Backends(i)); err != nil {
			return nil, nil, fmt.Errorf("service %s: %w", s.Name, err)
		}
		b.limit(s, &n.ids.numbers[i])
	}
	n.removed = nil
	for _, number := range n.ids.former {
		be := &b.backends[number]
		if be.Configured {
			continue
		}
		be.Evict = n.evictsRemoved(in, number)
		n.removed = append(n.removed, number)
		s := &b.services[n.ids.service[n.ids.backends[number].ID.Service]]
		s.Former = append(s.Former, number)
	}
	n.schedulers = b.schedulers.finish(len(b.config.Services))
	n.clients = clientPorts{in.clientPortOf(true, n.clients.v4), in.clientPortOf(false, n.clients.v6)}
	n.history = own(b.services, b.backends, func(s *pipeline.Service) bool { return n.clients.spread(in, s) }, n.history)
	return b.services, b.backends, nil
}

// evictsRemoved reports whether the connections of a backend that is not configured must end.
func (n *State) evictsRemoved(in *Input, number uint32) bool {
	id := n.ids.backends[number].ID
	return n.ids.services[n.ids.service[id.Service]].OnRemove == conf.OnRemoveReset || in.Health.Evicts(id)
}

// builder begins a build. The services and backends are written.
func (n *State) builder(in *Input, services []pipeline.Service, backends []pipeline.Backend, changed bool) *builder {
	return &builder{
		Input: in, config: n.ids.config, last: n.last, services: services, backends: backends,
		schedulers: n.schedulers.update(len(n.ids.services), n.ids.config.Engine.HashKey, changed, in.Now),
	}
}

// builder is a build under way.
type builder struct {
	*Input
	config   *conf.Config
	last     []int
	services []pipeline.Service
	backends []pipeline.Backend
	// backends are those of the tables before: they are copied when the first one changes
	shared     bool
	changed    []uint32 // numbers of the backends that decide changed
	schedulers *schedulerUpdate
	candidates []sched.Candidate // of one service at a time, likewise portions
	portions   []int
}

func serviceOf(s *conf.Service) pipeline.Service {
	return pipeline.Service{
		Addr: packet.AddrFrom(s.Key.Address), Ports: s.Key.Ports, Proto: uint8(s.Key.Protocol),
		TimeoutsMs: timeoutsMs(s.Timeouts),
		PersistMs:  ms(s.Persistence), ResetIdle: s.OnIdle == conf.OnIdleReset, Adopt: s.Adopts(),
		Unproven: uint32(s.Limits.Unproven * counter.Whole),
	}
}

// limit sets the limits of a service's backends.
func (b *builder) limit(s *conf.Service, n *numbers) {
	for i := range s.Backends {
		be := &b.backends[n.servers[i][s.Backends[i].Mode]]
		be.MaxConnections, be.MinConnections = uint32(s.Backends[i].MaxConnections), uint32(s.Backends[i].MinConnections)
	}
}

func limitsOf(l *conf.Limits) pipeline.Limits {
	out := pipeline.Limits{
		Connections: uint32(l.Connections), NewPerSecond: uint32(l.NewPerSecond),
		SourceConnections: uint32(l.SourceConnections), SourceNewPerSecond: uint32(l.SourceNewPerSecond),
	}
	if out.SourceConnections != 0 || out.SourceNewPerSecond != 0 {
		out.SourceBits4, out.SourceBits6 = uint8(l.SourcePrefix4), uint8(l.SourcePrefix6)
	}
	return out
}

// fillBackend fills in what a backend has whether it is configured or not.
func (b *builder) fillBackend(out *pipeline.Backend, of *Backend) {
	out.Addr, out.Port, out.Mode, out.Up = packet.AddrFrom(of.ID.Backend.Address), of.ID.Backend.Port, of.Mode, true
	link, reason := b.Hops.Lookup(out.Addr)
	if out.Unreach = reason; reason == counter.None {
		out.Link = *link
	}
	if of.Mode == service.NAT {
		out.Network = b.networkOf(of.ID.Backend.Address)
	}
	if of.Mode != service.TUN {
		return
	}
	src := b.Sources[of.ID.Backend.Address]
	out.Source = packet.AddrFrom(src)
	if !src.IsValid() && reason == counter.None {
		out.Unreach = counter.NoRoute
	}
}

// networkOf returns the number of the smallest connected network that has an address, 0 if none
// has.
func (b *builder) networkOf(a netip.Addr) (number uint16) {
	bits := -1
	for i, n := range b.Networks {
		if n.Bits() > bits && n.Contains(a) {
			number, bits = uint16(i+1), n.Bits()
		}
	}
	return number
}

// configure marks a service and its servers as configured and sets the service's scheduler. health
// is what was decided about its servers.
func (b *builder) configure(s *conf.Service, n *numbers, health []policy.Backend) error {
	for i, modes := range n.servers {
		for _, number := range modes {
			if number != 0 {
				b.decide(number, true, !health[i].Down, b.Health.Evicts(health[i].ID))
			}
		}
	}
	out := &b.services[n.service]
	out.Configured, out.Backends, out.Sorry = true, n.candidates, n.sorry[:min(1, len(n.sorry))]
	_, out.Unowned = slices.BinarySearchFunc(b.VIPs, s.Key.Address, netip.Addr.Compare)
	candidates := b.candidatesOf(s, n, health)
	if s.Sorry != nil && b.Health.SorryInUse(s.Key) {
		// Not one candidate among others: with some schedulers a backend without weight still has
		// clients.
		out.Backends = n.sorry
		candidates = []sched.Candidate{{
			ID: n.sorry[0], Weight: 1, LastWeight: 1, Up: true, Key: netip.AddrPortFrom(s.Sorry.Key.Address, s.Sorry.Key.Port),
		}}
	}
	out.Echo = s.ICMPEcho == conf.EchoAlways || s.ICMPEcho == conf.EchoWhenUp && slices.ContainsFunc(candidates, usable)
	kind := schedulerKind{name: s.Scheduler, ports: s.Hash == conf.HashAddressPort, adopt: out.Adopt}
	return b.schedulers.scheduler(n.service, out, kind, candidates)
}

// usable reports whether new connections may go to a candidate.
func usable(c sched.Candidate) bool { return c.Up && c.Weight > 0 }

// decide sets what depends on decisions about a backend's health.
func (b *builder) decide(number uint32, configured, up, evict bool) {
	if be := &b.backends[number]; be.Configured == configured && be.Up == up && be.Evict == evict {
		return
	}
	if b.shared {
		b.backends, b.shared = slices.Clone(b.backends), false
	}
	be := &b.backends[number]
	be.Configured, be.Up, be.Evict = configured, up, evict
	b.changed = append(b.changed, number)
}

// candidatesOf returns what the service's scheduler chooses from, without the sorry server. The
// slice is valid until the next call.
func (b *builder) candidatesOf(s *conf.Service, n *numbers, health []policy.Backend) []sched.Candidate {
	b.candidates, b.portions = b.candidates[:0], b.portions[:0]
	for i := range s.Backends {
		at := len(s.Backends) - 1 - i
		key, number := s.Backends[at].Key, n.candidates[i]
		b.candidates = append(b.candidates, sched.Candidate{
			ID: number, Weight: uint32(health[at].Weight), LastWeight: uint32(b.last[number]), Up: !health[at].Down,
			Key: netip.AddrPortFrom(key.Address, key.Port),
		})
		b.portions = append(b.portions, health[at].SlowStart)
	}
	scale(b.candidates, b.portions)
	return b.candidates
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

		conn.SynChallenged: ms(t.TCPSynRecv),
		conn.SynRepeated:   ms(t.TCPSynRecv),
	}
}

// scale multiplies the weights of a service's candidates, so that starting backends can have a
// portion of theirs. portions is by position, in units of 1/policy.WeightSteps, 0 for all of the
// weight. Heavy weights are multiplied by less, and the heaviest possible by 1.
func scale(candidates []sched.Candidate, portions []int) {
	heaviest := uint32(1)
	starting := false
	for i := range candidates {
		heaviest = max(heaviest, candidates[i].Weight, candidates[i].LastWeight)
		starting = starting || portions[i] != 0
	}
	if !starting {
		return
	}
	by := min(policy.WeightSteps, sched.MaxWeight/heaviest)
	for i := range candidates {
		c := &candidates[i]
		c.Weight, c.LastWeight = c.Weight*by, c.LastWeight*by
		if portions[i] != 0 && c.Weight > 0 {
			c.Weight = max(1, c.Weight*uint32(portions[i])/policy.WeightSteps)
		}
	}
}
