package engine

import (
	"fmt"
	"net/netip"

	"sluice/conf"
	"sluice/engine/platform"
	"sluice/pipeline/flow"
	"sluice/pipeline/nexthop"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
	"sluice/pipeline/snat"
)

// sources numbers the local addresses that fullnat sends from, and the pools of ports that each has
// towards each backend host. Like ids, numbers stay for as long as the daemon runs. Owned by the
// Engine.
//
// So does the rule by which a backend's ports are shared out among the workers. It is settled when
// the backend can be reached for the first time, by the settings of the card that leads there as
// they were when the port was opened. If they change (ethtool -X, -L), or another port leads there,
// replies come to other workers than those that have the connections and are handed over, until the
// daemon starts anew.
type sources struct {
	workers int // set before share is called

	number map[netip.Addr]uint8
	addrs  []netip.Addr
	pools  map[poolName]uint32
	refs   map[service.BackendID][]snat.Ref // every source that the backend ever had

	rules   map[endpoint]*flow.PortOwners // of backends that could be reached once; nil: ports in turn
	anyPort map[endpoint]bool             // backends of any port, whose port is 0 here
	shares  map[sharesName]*flow.PortOwners
}

// endpoint is a backend as fullnat sees it, whatever its service.
type endpoint struct {
	backend  service.BackendKey
	protocol service.Protocol
}

// sharesName is what Shares are made for.
type sharesName struct {
	port     string
	card     *flow.RSS
	protocol service.Protocol
	is4      bool
}

// poolName is within what a local port must be unique: one source, one host and port, one protocol.
type poolName struct {
	source   netip.Addr
	backend  service.BackendKey
	protocol service.Protocol
}

func newSources() *sources {
	return &sources{
		number: make(map[netip.Addr]uint8),
		pools:  make(map[poolName]uint32),
		refs:   make(map[service.BackendID][]snat.Ref),

		rules:   make(map[endpoint]*flow.PortOwners),
		anyPort: make(map[endpoint]bool),
		shares:  make(map[sharesName]*flow.PortOwners),
	}
}

// room tells whether all of the configuration's source addresses can have numbers.
func (s *sources) room(cfg *conf.Config) error {
	fresh := make(map[netip.Addr]bool)
	for _, svc := range cfg.Services {
		for _, a := range svc.Source {
			if _, ok := s.number[a]; !ok {
				fresh[a] = true
			}
		}
	}
	if n := len(s.addrs) + len(fresh); n > snat.MaxSources {
		return fmt.Errorf("%d source addresses since the start, at most %d: restart to forget old ones", n, snat.MaxSources)
	}
	return nil
}

// assign gives numbers to all of the configuration's sources and pools; room has said that there
// are enough.
func (s *sources) assign(cfg *conf.Config) {
	for _, refs := range s.refs {
		for i := range refs {
			refs[i].Configured = false
		}
	}
	for _, svc := range cfg.Services {
		for _, b := range svc.Servers() {
			if b.Mode != service.FullNAT {
				continue
			}
			for _, a := range svc.Source {
				s.use(svc.Key.BackendID(b.Key), a, svc.Key.Protocol)
			}
		}
	}
}

// use makes the source one that the backend's connections are sent from.
func (s *sources) use(name service.BackendID, source netip.Addr, protocol service.Protocol) {
	number, ok := s.number[source]
	if !ok {
		number = uint8(len(s.addrs))
		s.number[source] = number
		s.addrs = append(s.addrs, source)
	}
	pool := poolName{source, name.Backend, protocol}
	id, ok := s.pools[pool]
	if !ok {
		id = uint32(len(s.pools))
		s.pools[pool] = id
	}
	if name.Backend.Port == 0 {
		s.anyPort[endpoint{name.Backend, protocol}] = true
	}
	refs := s.refs[name]
	for i := range refs {
		if refs[i].Pool == id {
			refs[i].Configured = true
			return
		}
	}
	s.refs[name] = append(refs, snat.Ref{Source: number, Proto: uint8(protocol), Pool: id, Configured: true})
}

// share settles by which rule ports towards backends are shared out, for those that can be reached
// for the first time.
func (s *sources) share(hops *nexthop.Table, ports []platform.HardwarePort) {
	for name := range s.refs {
		e := endpoint{name.Backend, name.Service.Protocol}
		if _, settled := s.rules[e]; settled {
			continue
		}
		if hop, ok := hops.NextHop(packet.AddrFrom(e.backend.Address)); ok {
			s.rules[e] = s.sharesFor(e, &ports[hop.Port])
		}
	}
}

// sharesFor is how the endpoint's ports are shared out if it is reached by this port. A host that
// is a backend of any port, and so of any other backend's port too, gets them in turn, as that does
// for all of the host's ports.
func (s *sources) sharesFor(e endpoint, port *platform.HardwarePort) *flow.PortOwners {
	host := endpoint{service.BackendKey{Address: e.backend.Address}, e.protocol}
	if s.workers == 1 || port.RSS == nil || s.anyPort[host] {
		return nil
	}
	name := sharesName{port.Name, port.RSS, e.protocol, e.backend.Address.Is4()}
	made, ok := s.shares[name]
	if !ok {
		made = flow.NewPortOwners(name.card, uint8(name.protocol), name.is4, s.workers,
			func(queue int) int { return port.WorkerOf(queue, s.workers) })
		s.shares[name] = made
	}
	return made
}

// refsOf gives the backend's sources to the packet path, none before it could be reached: then it
// is not settled which worker has which port. Live marks are copied: tables never change.
func (s *sources) refsOf(name service.BackendID, refs []snat.Ref) []snat.Ref {
	shares, settled := s.rules[endpoint{name.Backend, name.Service.Protocol}]
	if !settled {
		return nil
	}
	out := append([]snat.Ref(nil), refs...)
	if shares == nil {
		return out
	}
	backend := packet.AddrFrom(name.Backend.Address)
	for i := range out {
		r := &out[i]
		r.Owners, r.Base = shares, shares.Base(backend, name.Backend.Port, packet.AddrFrom(s.addrs[r.Source]))
	}
	return out
}

// portsOf is what fullnat may use of a source's ports: none below 1024, and on an address that the
// kernel uses too none that it takes for connections of its own.
func portsOf(source netip.Addr, locals []netip.Addr, kernels service.Ports) *snat.PortSet {
	set := new(snat.PortSet)
	for _, r := range poolRanges(source, locals, kernels) {
		set.Add(r.First, r.Last)
	}
	return set
}

// The ports that fullnat and probes may have.
const (
	firstPort = 1024
	lastPort  = 65535
)

// poolRanges is the same as intervals, for the steering program. The probes of tun and dr have
// ports of the kernel's addresses too, next to those of the kernel.
func poolRanges(source netip.Addr, locals []netip.Addr, kernels service.Ports) []service.Ports {
	const first, last = firstPort, lastPort
	shared := false
	for _, a := range locals {
		shared = shared || a == source
	}
	if !shared || kernels.Last < first || kernels.First > kernels.Last {
		return []service.Ports{{First: first, Last: last}}
	}
	kernels = around(kernels, probePorts(kernels))
	var out []service.Ports
	if kernels.First > first {
		out = append(out, service.Ports{First: first, Last: kernels.First - 1})
	}
	if kernels.Last < last {
		out = append(out, service.Ports{First: kernels.Last + 1, Last: last})
	}
	return out
}

// tables gives what the packet path needs to know.
func (s *sources) tables(ids *ids, locals []netip.Addr, kernels service.Ports) ([]snat.Source, [][]snat.Ref) {
	if len(s.addrs) == 0 {
		return nil, nil
	}
	out := make([]snat.Source, len(s.addrs))
	for i, a := range s.addrs {
		out[i] = snat.Source{Addr: packet.AddrFrom(a), Ports: portsOf(a, locals, kernels)}
	}
	pools := make([][]snat.Ref, len(ids.backend))
	for name, refs := range s.refs {
		pools[ids.backends[backendID{name, service.FullNAT}]] = s.refsOf(name, refs)
	}
	return out, pools
}
