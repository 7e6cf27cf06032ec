package tables

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"sluice/engine/steer"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
)

// rulesOf returns which packets are steered to the workers: those to services, the replies of their
// nat backends, and what comes to the ports that fullnat sends from. Former backends and sources
// have rules as long as they have connections.
func rulesOf(in *Input, d *ids, s *snatState) steer.Rules {
	rules := steer.Rules{
		Locals: slices.Concat(in.Locals, in.Broadcasts), Probed: in.Probed, Probers: in.Probers, VIPs: in.VIPs, Stations: in.Stations,
	}
	for i := range d.config.Services {
		rules.Services = append(rules.Services, d.config.Services[i].Key)
	}
	for number := 1; number < len(d.backends); number++ {
		if b := &d.backends[number]; b.exists() && b.Mode == service.NAT {
			rules.Replies = append(rules.Replies, replyKey(b.ID))
		}
	}
	rules.Pools = s.poolKeys(in)
	return rules
}

// sameProbes reports whether the rules have the input's probes.
func sameProbes(r *steer.Rules, in *Input) bool {
	return slices.Equal(r.Probed, in.Probed) && slices.Equal(r.Probers, in.Probers)
}

// poolKeys returns what replies to fullnat connections are addressed to, in order.
func (s *snatState) poolKeys(in *Input) (keys []service.Key) {
	type side struct {
		source   netip.Addr
		protocol service.Protocol
	}
	sides := make(map[side]bool)
	for id, refs := range s.perBackend {
		for _, r := range refs {
			sides[side{r.source, id.Service.Protocol}] = true
		}
	}
	for _, at := range slices.SortedFunc(maps.Keys(sides), func(a, b side) int {
		return cmp.Or(a.source.Compare(b.source), cmp.Compare(a.protocol, b.protocol))
	}) {
		for _, ports := range portRanges(at.source, in.Locals, in.KernelPorts) {
			keys = append(keys, service.Key{Address: at.source, Ports: ports, Protocol: at.protocol})
		}
	}
	return keys
}

// replyKey returns what a backend's replies come from: its port, or any if it has many.
func replyKey(id service.BackendID) service.Key {
	ports := service.Ports{First: id.Backend.Port, Last: id.Backend.Port}
	if id.Backend.Port == 0 {
		ports = id.Service.Ports
	}
	return service.Key{Address: id.Backend.Address, Ports: ports, Protocol: id.Service.Protocol}
}

// ours returns the addresses of this host and the broadcast addresses of its subnets.
func (in *Input) ours() (all []packet.Addr) {
	for _, list := range [][]netip.Addr{in.Locals, in.Broadcasts} {
		for _, a := range list {
			all = append(all, packet.AddrFrom(a))
		}
	}
	return all
}
