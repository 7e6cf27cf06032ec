package engine

import (
	"log/slog"
	"net/netip"
	"slices"

	"sluice/conf"
	"sluice/engine/inspect"
	"sluice/engine/platform"
	"sluice/engine/route"
	"sluice/engine/steer"
	"sluice/pipeline/nexthop"
	"sluice/pipeline/service"
)

// OfflineOptions say what is invented around a configuration.
type OfflineOptions struct {
	MTU        int          // of all ports; 0: 1500
	Neighbours []netip.Addr // backends that answer ARP and ND; nil: all
}

// NewOffline returns the balancer that cfg describes. It needs no rights and touches nothing of
// this machine.
func NewOffline(cfg *conf.Config, o OfflineOptions) (*inspect.Offline, error) {
	e, err := newOffline(cfg, o)
	if err != nil {
		return nil, err
	}
	return inspect.NewOffline(inspect.Snapshot{
		Names: e.names(), Config: e.cfg, Tables: e.tables.Load(), Steering: e.steering(), Ports: e.surroundings.Ports,
		Health: e.health.policy,
	}), nil
}

// newOffline returns an engine without workers that has published the tables of cfg.
func newOffline(cfg *conf.Config, o OfflineOptions) (*Engine, error) {
	if o.MTU == 0 {
		o.MTU = 1500
	}
	e := newEngine(Options{Logger: slog.New(slog.DiscardHandler), Platform: invented{}})
	e.prober.Close() // all backends are up
	defer e.health.grow.Stop()
	e.cfg, e.surroundings = cfg, invent(cfg, o)
	e.cores = 1
	e.hardware = &platform.Hardware{Ports: make([]platform.HardwarePort, len(cfg.Ports))}
	return e, e.republish()
}

// invent makes up surroundings in which everything is reachable, and in which the kernel has the
// services' addresses. MAC addresses tell who is who:
// 02:00:00:00:00:PP are the ports, 02:00:00:00:01:00 the clients' router, 02:02 and the end of the
// address are backends.
func invent(cfg *conf.Config, o OfflineOptions) *route.Snapshot {
	s := &route.Snapshot{Ranges: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}
	var infos []nexthop.PortInfo
	for i, p := range cfg.Ports {
		mac := [6]byte{2, 0, 0, 0, 0, byte(i)}
		s.Ports = append(s.Ports, route.PortState{Name: p.Name, Exists: true, Ifindex: i + 1, MAC: mac, MTU: uint16(o.MTU), Up: true})
		infos = append(infos, nexthop.PortInfo{MAC: mac, MTU: uint16(o.MTU), Up: true, Name: p.Name})
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
			if o.Neighbours == nil || slices.Contains(o.Neighbours, a) {
				end := a.As16()
				neighbours = append(neighbours, nexthop.Neighbour{Addr: a, Port: last, MAC: [6]byte{2, 2, end[12], end[13], end[14], end[15]}})
			}
		}
	}
	s.Table = nexthop.Build(infos, routes, neighbours)
	return s
}

// invented is a Platform of which only the questions are asked that tables follow from.
type invented struct{ platform.Platform }

// Source gives addresses of the documentation's networks.
func (invented) Source(dst netip.Addr) netip.Addr {
	if dst.Is4() {
		return netip.MustParseAddr("192.0.2.1")
	}
	return netip.MustParseAddr("2001:db8::1")
}

func (invented) LocalPortRange() service.Ports { return service.Ports{First: 32768, Last: 60999} }

func (invented) Steer(steer.Rules) error { return nil }
