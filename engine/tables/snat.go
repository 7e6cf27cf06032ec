package tables

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"sluice/conf"
	"sluice/pipeline/flow"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
	"sluice/pipeline/snat"
)

// snatState numbers the local addresses that fullnat sends from, and has the pools of ports that
// each has towards each backend host. Like the numbers of ids, they stay for as long as they are
// configured or have connections.
//
// So does the rule by which a backend's ports are divided among the workers. It is settled when the
// backend can be reached for the first time, by the settings of the card that leads there as they
// were when the NIC port was opened. If they change (ethtool -X, -L), or another NIC port leads
// there, replies come to other workers than those that have the connections and are handed over,
// until the daemon is restarted.
//
// It is an immutable value; update replaces what changes.
type snatState struct {
	number map[netip.Addr]uint8
	addrs  []netip.Addr // by number; the zero Addr has no meaning at present
	// pools are those of all workers, each of which uses its own. Towards a backend that could not
	// be reached so far they are nil.
	pools      map[PoolName][]*snat.Pool
	perBackend map[service.BackendID][]sourceRef // the sources that it has or had
	anyPort    map[endpoint]bool                 // backends of any port, which is 0 here
	round      uint16                            // how often pools were made: see firstPortOf

	rules     map[endpoint]*flow.PortOwners // of reachable backends; nil: ports in turn
	unsettled []endpoint                    // backends that could not be reached so far
	owners    map[ownersName]*flow.PortOwners

	// What the packet path has, and the surroundings that it was made for.
	sources     []snat.Source
	refs        [][]snat.Ref // by backend number
	locals      []netip.Addr
	kernelPorts service.Ports
}

// Card is the network card of a NIC port, as far as tables follow from it.
type Card struct {
	Name   string    // of the NIC port
	Queues []int     // numbers of the queues that Sluice has, in the order of the workers
	RSS    *flow.RSS // how it chooses the queue, read when the port was opened; nil: unknown
}

// equal reports whether two values describe the same card with the same settings.
func (c Card) equal(other Card) bool {
	return c.Name == other.Name && c.RSS == other.RSS && slices.Equal(c.Queues, other.Queues)
}

// worker returns the worker of the queue with that number, -1 if Sluice does not have the queue.
func (c *Card) worker(number, workers int) int {
	for i, n := range c.Queues {
		if n == number {
			return i % workers
		}
	}
	return -1
}

// endpoint is a backend as fullnat sees it, whatever its service.
type endpoint struct {
	backend  service.BackendKey
	protocol service.Protocol
}

// ownersName is what PortOwners are made for.
type ownersName struct {
	port     string
	card     *flow.RSS
	protocol service.Protocol
	is4      bool
}

// PoolName is the scope in which a local port must be unique: one source, one host and port, one
// protocol.
type PoolName struct {
	Source   netip.Addr
	Backend  service.BackendKey
	Protocol service.Protocol
}

// sourceRef is a source of a backend. configured is false if only existing connections use it.
type sourceRef struct {
	source     netip.Addr
	configured bool
}

// poolOf returns the name of the pools of a backend's source.
func poolOf(id service.BackendID, source netip.Addr) PoolName {
	return PoolName{source, id.Backend, id.Service.Protocol}
}

// update makes s the state for the input. changed means that the configuration is another than
// before. Whatever s shares with other states stays as it is.
func (s *snatState) update(in *Input, d *ids, changed bool) error {
	ended := !in.Ended.empty()
	if ended {
		s.release(in.Ended.Pools, d)
	}
	if changed {
		if err := s.assign(d.config); err != nil {
			return err
		}
	}
	settled := s.settle(in)
	before := *s
	s.locals, s.kernelPorts = in.Locals, in.KernelPorts
	if !changed && !ended && s.sameSurroundings(&before) {
		if settled {
			s.makePools(in)
			s.refs = s.refsFor(d)
		}
		return nil
	}
	s.sources, s.refs = nil, nil
	if len(s.number) == 0 {
		return nil
	}
	s.sources = make([]snat.Source, len(s.addrs))
	for a, number := range s.number {
		s.sources[number] = before.source(packet.AddrFrom(a), number)
		if s.sources[number].Ports == nil || !s.sameSurroundings(&before) {
			s.sources[number] = snat.Source{Addr: packet.AddrFrom(a), Ports: portsOf(a, in.Locals, in.KernelPorts)}
		}
	}
	s.makePools(in)
	s.refs = s.refsFor(d)
	return nil
}

// source returns the source with a number, or the zero Source if the number is another address's.
func (s *snatState) source(a packet.Addr, number uint8) snat.Source {
	if int(number) < len(s.sources) && s.sources[number].Addr == a {
		return s.sources[number]
	}
	return snat.Source{}
}

// release forgets the pools with these names, if they are of no use any more, and everything of
// backends that have no number in mode fullnat.
func (s *snatState) release(ended []PoolName, d *ids) {
	over := make(map[PoolName]bool, len(ended))
	for _, name := range ended {
		over[name] = true
	}
	before, pools, number := s.perBackend, s.pools, s.number
	left := make(map[endpoint]bool)
	s.perBackend = make(map[service.BackendID][]sourceRef, len(before))
	s.pools, s.number, s.addrs = make(map[PoolName][]*snat.Pool, len(pools)), make(map[netip.Addr]uint8), make([]netip.Addr, len(s.addrs))
	for id, refs := range before {
		if d.backend[id][service.FullNAT] == 0 {
			continue
		}
		kept := make([]sourceRef, 0, len(refs))
		for _, r := range refs {
			name := poolOf(id, r.source)
			if !r.configured && over[name] {
				continue
			}
			kept = append(kept, r)
			s.pools[name] = pools[name]
			s.number[r.source] = number[r.source]
			s.addrs[number[r.source]] = r.source
		}
		s.perBackend[id] = kept
		left[endpoint{id.Backend, id.Service.Protocol}] = true
	}
	gone := func(e endpoint) bool { return !left[e] }
	s.unsettled = slices.DeleteFunc(slices.Clone(s.unsettled), gone)
	s.rules = cloneMap(s.rules)
	maps.DeleteFunc(s.rules, func(e endpoint, _ *flow.PortOwners) bool { return gone(e) })
}

// former returns the names of the pools, with the pools of all workers, that no configured backend
// uses.
func (s *snatState) former() map[PoolName][]*snat.Pool {
	all := make(map[PoolName][]*snat.Pool)
	for id, refs := range s.perBackend {
		for _, r := range refs {
			if name := poolOf(id, r.source); !r.configured && s.pools[name] != nil {
				all[name] = s.pools[name]
			}
		}
	}
	for id, refs := range s.perBackend {
		for _, r := range refs {
			if r.configured {
				delete(all, poolOf(id, r.source))
			}
		}
	}
	return all
}

// sameSurroundings reports whether a source has the same SNAT ports in both.
func (s *snatState) sameSurroundings(other *snatState) bool {
	return s.kernelPorts == other.kernelPorts && slices.Equal(s.locals, other.locals)
}

// assign numbers all of the configuration's sources.
func (s *snatState) assign(cfg *conf.Config) error {
	s.number, s.pools, s.anyPort = cloneMap(s.number), cloneMap(s.pools), cloneMap(s.anyPort)
	s.addrs, s.unsettled = slices.Clone(s.addrs), slices.Clip(s.unsettled)
	before := s.perBackend
	s.perBackend = make(map[service.BackendID][]sourceRef, len(before))
	for id, refs := range before {
		refs = slices.Clone(refs)
		for i := range refs {
			refs[i].configured = false
		}
		s.perBackend[id] = refs
	}
	for i := range cfg.Services {
		svc := &cfg.Services[i]
		for _, b := range svc.Servers() {
			if b.Mode == service.FullNAT {
				s.addBackend(svc, &b)
			}
		}
	}
	if n := len(s.number); n > snat.MaxSources {
		return fmt.Errorf("%d source addresses, those of existing connections included, at most %d are possible: use fewer in source", n, snat.MaxSources)
	}
	return nil
}

// addSource gives the address a number. assign checks that it fits.
func (s *snatState) addSource(a netip.Addr) {
	if _, known := s.number[a]; known {
		return
	}
	if free := slices.Index(s.addrs, netip.Addr{}); free >= 0 {
		s.number[a], s.addrs[free] = uint8(free), a
		return
	}
	s.number[a] = uint8(len(s.addrs))
	s.addrs = append(s.addrs, a)
}

// addBackend gives a fullnat backend the sources of its service.
func (s *snatState) addBackend(svc *conf.Service, b *conf.Backend) {
	id, e := svc.Key.BackendID(b.Key), endpoint{b.Key, svc.Key.Protocol}
	if b.Key.Port == 0 {
		s.anyPort[e] = true
	}
	refs, known := s.perBackend[id]
	if _, settled := s.rules[e]; !known && !settled {
		s.unsettled = append(s.unsettled, e)
	}
	for _, a := range svc.Source {
		s.addSource(a)
		if i := slices.IndexFunc(refs, func(r sourceRef) bool { return r.source == a }); i >= 0 {
			refs[i].configured = true
			continue
		}
		refs = append(refs, sourceRef{a, true})
	}
	s.perBackend[id] = refs
}

// makePools makes the pools of backends that can be reached, for all workers, as far as they do not
// exist yet.
func (s *snatState) makePools(in *Input) {
	s.pools = cloneMap(s.pools)
	s.round++
	layouts := make(snat.Layouts)
	for id, refs := range s.perBackend {
		if _, settled := s.rules[endpoint{id.Backend, id.Service.Protocol}]; !settled {
			continue
		}
		for _, r := range refs {
			if name := poolOf(id, r.source); s.pools[name] == nil {
				ref := s.ref(id, r)
				ports := s.sources[ref.Source].Ports
				s.pools[name] = ref.NewPools(layouts, ports, in.Workers, firstPortOf(name, ports, in.Seed, s.round))
			}
		}
	}
}

// firstPortOf returns which of the ports the pools with that name allocate first. It differs from
// daemon to daemon, and from that of the same pools if they were made in a round before: the
// backend may still have their connections.
func firstPortOf(name PoolName, ports *snat.PortSet, seed *flow.Seed, round uint16) uint16 {
	n := ports.Len()
	if n == 0 {
		return 0
	}
	backend := seed.Hash(packet.AddrFrom(name.Backend.Address), name.Backend.Port, uint8(name.Protocol))
	source := seed.Hash(packet.AddrFrom(name.Source), round, 0)
	return ports.At(int((backend ^ source) % uint64(n)))
}

// settle settles by which rule ports towards backends are divided, for those that can be reached
// for the first time. It reports whether there were any.
func (s *snatState) settle(in *Input) (any bool) {
	var left []endpoint
	for i, e := range s.unsettled {
		hop, ok := in.Hops.NextHop(packet.AddrFrom(e.backend.Address))
		if !ok && any {
			left = append(left, e)
		}
		if !ok {
			continue
		}
		if !any {
			any = true
			s.rules, s.owners = cloneMap(s.rules), cloneMap(s.owners)
			left = slices.Clone(s.unsettled[:i])
		}
		s.rules[e] = s.ownersFor(e, &in.Cards[hop.Port], in.Workers)
	}
	if any {
		s.unsettled = left
	}
	return any
}

// ownersFor returns how the endpoint's ports are divided if this card leads to it; nil: in turn. A
// host that is a backend of any port, and so of any other backend's port too, gets them in turn, as
// that does for all of the host's ports.
func (s *snatState) ownersFor(e endpoint, card *Card, workers int) *flow.PortOwners {
	host := endpoint{service.BackendKey{Address: e.backend.Address}, e.protocol}
	if workers == 1 || card.RSS == nil || s.anyPort[host] {
		return nil
	}
	name := ownersName{card.Name, card.RSS, e.protocol, e.backend.Address.Is4()}
	made, ok := s.owners[name]
	if !ok {
		made = flow.NewPortOwners(name.card, uint8(name.protocol), name.is4, workers,
			func(queue int) int { return card.worker(queue, workers) })
		s.owners[name] = made
	}
	return made
}

// refsFor returns the sources of every backend for the packet path, none for backends that could
// not be reached so far: until then it is not settled which worker has which port.
func (s *snatState) refsFor(d *ids) [][]snat.Ref {
	out := make([][]snat.Ref, len(d.backends))
	for id, refs := range s.perBackend {
		if _, settled := s.rules[endpoint{id.Backend, id.Service.Protocol}]; !settled {
			continue
		}
		all := make([]snat.Ref, len(refs))
		for i, r := range refs {
			all[i] = s.ref(id, r)
		}
		out[d.backend[id][service.FullNAT]] = all
	}
	return out
}

// ref returns a backend's source for the packet path.
func (s *snatState) ref(id service.BackendID, r sourceRef) snat.Ref {
	ref := snat.Ref{
		Source: s.number[r.source], Proto: uint8(id.Service.Protocol), Configured: r.configured,
		Pools:  s.pools[poolOf(id, r.source)],
		Owners: s.rules[endpoint{id.Backend, id.Service.Protocol}],
	}
	if ref.Owners != nil {
		ref.Base = ref.Owners.Base(packet.AddrFrom(id.Backend.Address), id.Backend.Port, packet.AddrFrom(r.source))
	}
	return ref
}

// cloneMap is maps.Clone that returns an empty map for nil.
func cloneMap[K comparable, V any](m map[K]V) map[K]V {
	if m == nil {
		return make(map[K]V)
	}
	return maps.Clone(m)
}

// portsOf returns the SNAT ports of a source: none below 1024, and on an address that the kernel
// uses too none that it assigns to its own connections.
func portsOf(source netip.Addr, locals []netip.Addr, kernels service.Ports) *snat.PortSet {
	set := new(snat.PortSet)
	for _, r := range portRanges(source, locals, kernels) {
		set.Add(r.First, r.Last)
	}
	return set
}

// The range of SNAT ports and of the ports of health probes.
const (
	firstPort = snat.FirstPort
	lastPort  = 65535
)

// portRanges returns the SNAT ports of a source as ranges, for the steering program. The health
// probes of tun and dr backends have ports of the kernel's addresses too, next to those of the
// kernel.
func portRanges(source netip.Addr, locals []netip.Addr, kernels service.Ports) []service.Ports {
	const first, last = firstPort, lastPort
	if !slices.Contains(locals, source) || kernels.Last < first || kernels.First > kernels.Last {
		return []service.Ports{{First: first, Last: last}}
	}
	kernels = around(kernels, ProbePorts(kernels))
	var out []service.Ports
	if kernels.First > first {
		out = append(out, service.Ports{First: first, Last: kernels.First - 1})
	}
	if kernels.Last < last {
		out = append(out, service.Ports{First: kernels.Last + 1, Last: last})
	}
	return out
}

// probedPorts is the number of ports that probes are sent from. More sockets than that at a time
// would disturb each other.
const probedPorts = 4096

// ProbePorts returns the ports that probes are sent from. The kernel assigns none of them to its
// own connections. They are next to those that it does assign, if they fit there.
func ProbePorts(kernels service.Ports) service.Ports {
	first, last := int(kernels.First), int(kernels.Last)
	switch {
	case first-probedPorts >= firstPort:
		return service.Ports{First: uint16(first - probedPorts), Last: uint16(first - 1)}
	case last+probedPorts <= lastPort:
		return service.Ports{First: uint16(last + 1), Last: uint16(last + probedPorts)}
	}
	return service.Ports{First: lastPort - probedPorts + 1, Last: lastPort}
}

// around returns the smallest range that contains both.
func around(a, b service.Ports) service.Ports {
	return service.Ports{First: min(a.First, b.First), Last: max(a.Last, b.Last)}
}
