package inspect

import (
	"net/netip"
	"slices"

	"sluice/conf"
	"sluice/engine/route"
	"sluice/pipeline/nexthop"
)

// Surroundings makes up surroundings of a configuration in which everything is reachable, and in
// which the kernel has the services' addresses. MAC addresses tell who is who: 02:00:00:00:00:PP
// are the ports, 02:00:00:00:01:00 the clients' router, 02:02 and the end of the address are
// backends.
func Surroundings(cfg *conf.Config, mtu int, answering []netip.Addr) *route.Snapshot {
	s := &route.Snapshot{Ranges: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}
	var infos []nexthop.PortInfo
	for i, p := range cfg.Ports {
		mac := [6]byte{2, 0, 0, 0, 0, byte(i)}
		s.Ports = append(s.Ports, route.PortState{Name: p.Name, Exists: true, Ifindex: i + 1, MAC: mac, MTU: uint16(mtu), Up: true})
		infos = append(infos, nexthop.PortInfo{MAC: mac, MTU: uint16(mtu), Up: true, Name: p.Name})
	}
	last := uint8(len(cfg.Ports) - 1)
	var routes []nexthop.Route
	var neighbours []nexthop.Neighbour
	for _, router := range []string{"192.0.0.8", "fe80::1"} {
		via := netip.MustParseAddr(router)
		routes = append(routes, nexthop.Route{Prefix: netip.PrefixFrom(via, 0).Masked(), Via: via})
		neighbours = append(neighbours, nexthop.Neighbour{Addr: via, MAC: [6]byte{2, 0, 0, 0, 1, 0}})
	}
	seen := make(map[netip.Addr]bool)
	for _, svc := range cfg.Services {
		for _, b := range svc.Backends {
			a := b.Key.Address
			if seen[a] {
				continue
			}
			seen[a] = true
			routes = append(routes, nexthop.Route{Prefix: netip.PrefixFrom(a, a.BitLen()), Port: last})
			if answering == nil || slices.Contains(answering, a) {
				end := a.As16()
				neighbours = append(neighbours, nexthop.Neighbour{Addr: a, Port: last, MAC: [6]byte{2, 2, end[12], end[13], end[14], end[15]}})
			}
		}
	}
	s.Table = nexthop.Build(infos, routes, neighbours)
	return s
}
