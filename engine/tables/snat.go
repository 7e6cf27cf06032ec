package tables

import (
	"fmt"
	"net/netip"

	"sluice/conf"
	"sluice/pipeline/flow"
	"sluice/pipeline/nexthop"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
	"sluice/pipeline/snat"
)

// SNAT numbers the local addresses that fullnat sends from, and the pools of ports that each has
// towards each backend host. Like ids, numbers stay for as long as the daemon runs. Owned by the
// Engine.
//
// So does the rule by which a backend's ports are shared out among the workers. It is settled when
// the backend can be reached for the first time, by the settings of the card that leads there as
// they were when the port was opened. If they change (ethtool -X, -L), or another port leads there,
// replies come to other workers than those that have the connections and are handed over, until the
// daemon starts anew.
type SNAT struct {
	Workers int // set before Share is called

	number map[netip.Addr]uint8
	addrs  []netip.Addr
	pools  map[poolName]uint32
	refs   map[service.BackendID][]snat.Ref // every source that the backend ever had

	rules   map[endpoint]*flow.PortOwners // of backends that could be reached once; nil: ports in turn
	anyPort map[endpoint]bool             // backends of any port, whose port is 0 here
	shares  map[sharesName]*flow.PortOwners
}

// Card is a port's network card, as far as tables follow from it.
type Card struct {
	Name   string    // of the port
	Queues []int     // numbers of the queues that are ours, in the order of the workers
	RSS    *flow.RSS // by which the card chooses the queue, read when it was opened; nil: it doesn't tell
}

// worker says whose the queue of that number is, -1 if it isn't ours.
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

func NewSNAT() *SNAT {
	return &SNAT{
		number: make(map[netip.Addr]uint8),
		pools:  make(map[poolName]uint32),
		refs:   make(map[service.BackendID][]snat.Ref),

		rules:   make(map[endpoint]*flow.PortOwners),
		anyPort: make(map[endpoint]bool),
		shares:  make(map[sharesName]*flow.PortOwners),
	}
}

// Room tells whether all of the configuration's source addresses can have numbers.
func (s *SNAT) Room(cfg *conf.Config) error {
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

// Assign gives numbers to all of the configuration's sources and pools; Room has said that there
// are enough.
func (s *SNAT) Assign(cfg *conf.Config) {
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
func (s *SNAT) use(name service.BackendID, source netip.Addr, protocol service.Protocol) {
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

// Share settles by which rule ports towards backends are shared out, for those that can be reached
// for the first time.
func (s *SNAT) Share(hops *nexthop.Table, ports []Card) {
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
func (s *SNAT) sharesFor(e endpoint, port *Card) *flow.PortOwners {
	host := endpoint{service.BackendKey{Address: e.backend.Address}, e.protocol}
	if s.Workers == 1 || port.RSS == nil || s.anyPort[host] {
		return nil
	}
	name := sharesName{port.Name, port.RSS, e.protocol, e.backend.Address.Is4()}
	made, ok := s.shares[name]
	if !ok {
		made = flow.NewPortOwners(name.card, uint8(name.protocol), name.is4, s.Workers,
			func(queue int) int { return port.worker(queue, s.Workers) })
		s.shares[name] = made
	}
	return made
}

// refsOf gives the backend's sources to the packet path, none before it could be reached: then it
// is not settled which worker has which port. Live marks are copied: tables never change.
func (s *SNAT) refsOf(name service.BackendID, refs []snat.Ref) []snat.Ref {
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
	for _, r := range PortRanges(source, locals, kernels) {
		set.Add(r.First, r.Last)
	}
	return set
}

// The ports that fullnat and probes may have.
const (
	FirstPort = 1024
	LastPort  = 65535
)

// PortRanges is the same as intervals, for the steering program. The probes of tun and dr have
// ports of the kernel's addresses too, next to those of the kernel.
func PortRanges(source netip.Addr, locals []netip.Addr, kernels service.Ports) []service.Ports {
	const first, last = FirstPort, LastPort
	shared := false
	for _, a := range locals {
		shared = shared || a == source
	}
	if !shared || kernels.Last < first || kernels.First > kernels.Last {
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

// probedPorts is how many ports probes have. With more than so many sockets at a time, they would
// disturb each other.
const probedPorts = 4096

// ProbePorts are the ports that probes are sent from: the kernel chooses none of them for
// connections of its own. They lie next to those that it does choose, unless it leaves no room
// there.
func ProbePorts(kernels service.Ports) service.Ports {
	first, last := int(kernels.First), int(kernels.Last)
	switch {
	case first-probedPorts >= FirstPort:
		return service.Ports{First: uint16(first - probedPorts), Last: uint16(first - 1)}
	case last+probedPorts <= LastPort:
		return service.Ports{First: uint16(last + 1), Last: uint16(last + probedPorts)}
	}
	return service.Ports{First: LastPort - probedPorts + 1, Last: LastPort}
}

// around is the smallest range that holds both.
func around(a, b service.Ports) service.Ports {
	return service.Ports{First: min(a.First, b.First), Last: max(a.Last, b.Last)}
}

// tables gives what the packet path needs to know.
func (s *SNAT) tables(ids *IDs, locals []netip.Addr, kernels service.Ports) ([]snat.Source, [][]snat.Ref) {
	if len(s.addrs) == 0 {
		return nil, nil
	}
	out := make([]snat.Source, len(s.addrs))
	for i, a := range s.addrs {
		out[i] = snat.Source{Addr: packet.AddrFrom(a), Ports: portsOf(a, locals, kernels)}
	}
	pools := make([][]snat.Ref, len(ids.Backend))
	for name, refs := range s.refs {
		pools[ids.backends[Backend{name, service.FullNAT}]] = s.refsOf(name, refs)
	}
	return out, pools
}
