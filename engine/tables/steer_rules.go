package tables

import (
	"slices"

	"sluice/conf"
	"sluice/engine/steer"
	"sluice/pipeline/service"
)

// rulesOf returns which packets are steered to the workers: those to services, the replies of their
// nat backends, and what comes to the ports that fullnat sends from. A backend has the rules of
// every mode that it was ever in, for the connections that were opened in it.
func rulesOf(in *Input, d *ids) steer.Rules {
	rules := steer.Rules{Locals: in.Locals, Probed: in.Probed, Probers: in.Probers}
	for i := range d.config.Services {
		s := &d.config.Services[i]
		rules.Services = append(rules.Services, s.Key)
		fullnat := false
		for j, b := range s.Servers() {
			modes := &d.numbers[i].servers[j]
			if modes[service.NAT] != 0 {
				rules.Replies = append(rules.Replies, replyKey(s, &b))
			}
			fullnat = fullnat || modes[service.FullNAT] != 0
		}
		if fullnat {
			rules.Pools = append(rules.Pools, poolKeys(s, in)...)
		}
	}
	return rules
}

// sameProbes reports whether the rules have the input's probes.
func sameProbes(r *steer.Rules, in *Input) bool {
	return slices.Equal(r.Probed, in.Probed) && slices.Equal(r.Probers, in.Probers)
}

// poolKeys returns what replies to a fullnat service's connections are addressed to.
func poolKeys(s *conf.Service, in *Input) (keys []service.Key) {
	for _, a := range s.Source {
		for _, ports := range portRanges(a, in.Locals, in.KernelPorts) {
			keys = append(keys, service.Key{Address: a, Ports: ports, Protocol: s.Key.Protocol})
		}
	}
	return keys
}

// replyKey returns what a backend's replies come from: its port, or any if it has many.
func replyKey(s *conf.Service, b *conf.Backend) service.Key {
	ports := service.Ports{First: b.Key.Port, Last: b.Key.Port}
	if b.Key.Port == 0 {
		ports = s.Key.Ports
	}
	return service.Key{Address: b.Key.Address, Ports: ports, Protocol: s.Key.Protocol}
}
