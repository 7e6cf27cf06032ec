package tables

import (
	"sluice/conf"
	"sluice/engine/steer"
	"sluice/pipeline/service"
)

// Rules says which packets are ours: those of the services, the replies of their NAT backends, and
// what comes to the ports that fullnat sends from.
func Rules(p *Input) steer.Rules {
	rules := steer.Rules{Locals: p.Locals, Probed: p.Probed, Probers: p.Probers}
	for i := range p.Config.Services {
		s := &p.Config.Services[i]
		rules.Services = append(rules.Services, s.Key)
		for _, b := range s.Servers() {
			for _, id := range p.IDs.All(s.Key.BackendID(b.Key)) {
				switch p.IDs.Backend[id].Mode {
				case service.NAT:
					rules.Replies = append(rules.Replies, replyKey(s, &b))
				case service.FullNAT:
					rules.Pools = append(rules.Pools, p.poolKeys(s)...)
				}
			}
		}
	}
	return rules
}

// poolKeys is what replies to a fullnat service's connections are addressed to.
func (p *Input) poolKeys(s *conf.Service) (keys []service.Key) {
	for _, a := range s.Source {
		for _, ports := range PortRanges(a, p.Locals, p.KernelPorts) {
			keys = append(keys, service.Key{Address: a, Ports: ports, Protocol: s.Key.Protocol})
		}
	}
	return keys
}

// replyKey is what a backend's replies come from: its port, or any if it serves many.
func replyKey(s *conf.Service, b *conf.Backend) service.Key {
	ports := service.Ports{First: b.Key.Port, Last: b.Key.Port}
	if b.Key.Port == 0 {
		ports = s.Key.Ports
	}
	return service.Key{Address: b.Key.Address, Ports: ports, Protocol: s.Key.Protocol}
}
