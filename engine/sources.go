package engine

import (
	"fmt"
	"net/netip"

	"sluice/conf"
	"sluice/pipeline"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
)

// sources numbers the local addresses that fullnat sends from, and the pools of ports that each has
// towards each backend host. Like ids, numbers stay for as long as the daemon runs. Owned by the Engine.
type sources struct {
	number map[netip.Addr]uint8
	addrs  []netip.Addr
	pools  map[poolName]uint32
	refs   map[backendName][]pipeline.SourceRef // every source that the backend ever had
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
		refs:   make(map[backendName][]pipeline.SourceRef),
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
	if n := len(s.addrs) + len(fresh); n > pipeline.MaxSources {
		return fmt.Errorf("%d source addresses since the start, at most %d: restart to forget old ones", n, pipeline.MaxSources)
	}
	return nil
}

// assign gives numbers to all of the configuration's sources and pools; room has said that there are enough.
func (s *sources) assign(cfg *conf.Config) {
	for name, refs := range s.refs {
		for i := range refs {
			refs[i].Live = false
		}
		s.refs[name] = refs
	}
	for _, svc := range cfg.Services {
		for _, b := range svc.Backends {
			if b.Mode != service.FullNAT {
				continue
			}
			for _, a := range svc.Source {
				s.use(backendName{svc.Key, b.Key}, a, svc.Key.Protocol)
			}
		}
	}
}

// use makes the source one that the backend's connections are sent from.
func (s *sources) use(name backendName, source netip.Addr, protocol service.Protocol) {
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
	refs := s.refs[name]
	for i := range refs {
		if refs[i].Pool == id {
			refs[i].Live = true
			return
		}
	}
	s.refs[name] = append(refs, pipeline.SourceRef{Source: number, Pool: id, Live: true})
}

// portsOf is what fullnat may use of a source's ports: none below 1024, and on an address that the kernel
// uses too none that it takes for connections of its own.
func portsOf(source netip.Addr, locals []netip.Addr, kernels service.Ports) *pipeline.PortSet {
	set := new(pipeline.PortSet)
	for _, r := range poolRanges(source, locals, kernels) {
		set.Add(r.First, r.Last)
	}
	return set
}

// poolRanges is the same as intervals, for the steering program.
func poolRanges(source netip.Addr, locals []netip.Addr, kernels service.Ports) []service.Ports {
	const first, last = 1024, 65535
	shared := false
	for _, a := range locals {
		shared = shared || a == source
	}
	if !shared || kernels.Last < first || kernels.First > kernels.Last {
		return []service.Ports{{First: first, Last: last}}
	}
	var out []service.Ports
	if kernels.First > first {
		out = append(out, service.Ports{First: first, Last: kernels.First - 1})
	}
	if kernels.Last < last {
		out = append(out, service.Ports{First: kernels.Last + 1, Last: last})
	}
	return out
}

// tables gives what the packet path needs to know. Live marks are copied: tables never change.
func (s *sources) tables(ids *ids, locals []netip.Addr, kernels service.Ports) ([]pipeline.Source, [][]pipeline.SourceRef) {
	if len(s.addrs) == 0 {
		return nil, nil
	}
	out := make([]pipeline.Source, len(s.addrs))
	for i, a := range s.addrs {
		out[i] = pipeline.Source{Addr: packet.AddrFrom(a), Ports: portsOf(a, locals, kernels)}
	}
	pools := make([][]pipeline.SourceRef, len(ids.backend))
	for name, refs := range s.refs {
		pools[ids.backends[backendID{name, service.FullNAT}]] = append([]pipeline.SourceRef(nil), refs...)
	}
	return out, pools
}
