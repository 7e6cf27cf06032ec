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

// snatState numbers the local addresses that fullnat sends from, and the pools of ports that each
// has towards each backend host. Like ids, numbers stay for as long as the daemon runs.
//
// So does the rule by which a backend's ports are divided among the workers. It is settled when the
// backend can be reached for the first time, by the settings of the card that leads there as they
// were when the NIC port was opened. If they change (ethtool -X, -L), or another NIC port leads
// there, replies come to other workers than those that have the connections and are handed over,
// until the daemon is restarted.
//
// It is an immutable value; update replaces what changes.
type snatState struct {
	number     map[netip.Addr]uint8
	addrs      []netip.Addr // by number
	pools      map[poolName]uint32
	perBackend map[service.BackendID][]snat.Ref // the sources that it ever had, without a rule
	anyPort    map[endpoint]bool                // backends of any port, the port of which is 0 here

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

// poolName is the scope in which a local port must be unique: one source, one host and port, one
// protocol.
type poolName struct {
	source   netip.Addr
	backend  service.BackendKey
	protocol service.Protocol
}

// update makes s the state for the input. changed means that the configuration is another than
// before. Whatever s shares with other states stays as it is.
func (s *snatState) update(in *Input, d *ids, changed bool) error {
	if changed {
		if err := s.assign(d.config); err != nil {
			return err
		}
	}
	settled := s.settle(in)
	before := *s
	s.locals, s.kernelPorts = in.Locals, in.KernelPorts
	if !changed && s.sameSurroundings(&before) {
		if settled {
			s.refs = s.refsFor(d)
		}
		return nil
	}
	s.sources, s.refs = nil, nil
	if len(s.addrs) == 0 {
		return nil
	}
	s.sources = make([]snat.Source, len(s.addrs))
	for i, a := range s.addrs {
		s.sources[i] = snat.Source{Addr: packet.AddrFrom(a), Ports: portsOf(a, in.Locals, in.KernelPorts)}
	}
	s.refs = s.refsFor(d)
	return nil
}

// sameSurroundings reports whether a source has the same SNAT ports in both.
func (s *snatState) sameSurroundings(other *snatState) bool {
	return s.kernelPorts == other.kernelPorts && slices.Equal(s.locals, other.locals)
}

// assign numbers all of the configuration's sources and pools.
func (s *snatState) assign(cfg *conf.Config) error {
	s.number, s.pools, s.anyPort = cloneMap(s.number), cloneMap(s.pools), cloneMap(s.anyPort)
	s.addrs, s.unsettled = slices.Clip(s.addrs), slices.Clip(s.unsettled)
	before := s.perBackend
	s.perBackend = make(map[service.BackendID][]snat.Ref, len(before))
	for id, refs := range before {
		refs = slices.Clone(refs)
		for i := range refs {
			refs[i].Configured = false
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
	if n := len(s.addrs); n > snat.MaxSources {
		return fmt.Errorf("%d source addresses since the start, at most %d: restart to forget old ones", n, snat.MaxSources)
	}
	return nil
}

func (s *snatState) addSource(a netip.Addr) {
	if _, known := s.number[a]; !known {
		s.number[a] = uint8(len(s.addrs)) // assign checks that it fits
		s.addrs = append(s.addrs, a)
	}
}

// addBackend gives a fullnat backend the sources of its service.
func (s *snatState) addBackend(svc *conf.Service, b *conf.Backend) {
	id, e := svc.Key.BackendID(b.Key), endpoint{b.Key, svc.Key.Protocol}
	if b.Key.Port == 0 {
		s.anyPort[e] = true
	}
	if _, known := s.perBackend[id]; !known {
		if _, settled := s.rules[e]; !settled {
			s.unsettled = append(s.unsettled, e)
		}
	}
	refs := s.perBackend[id]
	for _, a := range svc.Source {
		s.addSource(a)
		name := poolName{a, b.Key, svc.Key.Protocol}
		pool, known := s.pools[name]
		if !known {
			pool = uint32(len(s.pools))
			s.pools[name] = pool
		}
		if i := slices.IndexFunc(refs, func(r snat.Ref) bool { return r.Pool == pool }); i >= 0 {
			refs[i].Configured = true
			continue
		}
		refs = append(refs, snat.Ref{Source: s.number[a], Proto: uint8(svc.Key.Protocol), Pool: pool, Configured: true})
	}
	s.perBackend[id] = refs
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

// refsFor returns the sources of every backend for the packet path.
func (s *snatState) refsFor(d *ids) [][]snat.Ref {
	out := make([][]snat.Ref, len(d.backends))
	for id, refs := range s.perBackend {
		out[d.backend[id][service.FullNAT]] = s.refsOf(id, refs)
	}
	return out
}

// refsOf returns the backend's sources for the packet path, none before the backend could be
// reached: until then it is not settled which worker has which port.
func (s *snatState) refsOf(id service.BackendID, refs []snat.Ref) []snat.Ref {
	owners, settled := s.rules[endpoint{id.Backend, id.Service.Protocol}]
	if !settled {
		return nil
	}
	if owners == nil {
		return refs
	}
	backend := packet.AddrFrom(id.Backend.Address)
	out := slices.Clone(refs)
	for i := range out {
		r := &out[i]
		r.Owners, r.Base = owners, owners.Base(backend, id.Backend.Port, packet.AddrFrom(s.addrs[r.Source]))
	}
	return out
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
	firstPort = 1024
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
