package enginetest

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"sluice/engine/route"
	"sluice/pipeline/nexthop"
	"sluice/pipeline/packet"
)

// Ports of a lab.
const (
	Clients  = 0 // towards the routers
	Backends = 1 // towards the backends; the same in a lab of one port
)

// Surroundings is what the engine learns about its network.
type Surroundings struct {
	Ports      []route.PortState
	Routes     []nexthop.Route
	Neighbours []nexthop.Neighbour
	Ranges     []netip.Prefix // the kernel's: at the start those of the services' addresses
	// Unreachable: see route.Snapshot; nothing follows from Routes and Neighbours
	Unreachable map[netip.Addr]route.Unreachable
	Silent      []netip.Addr // neighbours that the kernel has asked for in vain
}

// MAC addresses of the surroundings.
var (
	RouterMAC = [6]byte{2, 0, 0, 0, 0xff, 1}
	// PortMAC returns the MAC address of the engine's own port.
	PortMAC = func(port int) [6]byte { return [6]byte{2, 0, 0, 0, 0xee, byte(port)} }
	// HostMAC returns the MAC address of host n, 11 to 19, among the backends.
	HostMAC = func(n int) [6]byte { return [6]byte{2, 0, 0, 0, 0xbb, byte(n)} }
)

// The routers towards all addresses except the backends', and our own addresses at the two ports.
const (
	Router4   = "203.0.113.1"
	Router6   = "2001:db8:ffff::1"
	Own4      = "203.0.113.2"
	Own6      = "2001:db8:ffff::2"
	Tunnel4   = "10.0.0.1" // ours towards the backends: the outer source of tunnels
	Tunnel6   = "2001:db8:a::1"
	portMTU   = 1500
	firstHost = 11
	lastHost  = 19
)

// newSurroundings returns the network at the start of a test.
func newSurroundings(ports int) Surroundings {
	s := Surroundings{Ranges: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8:1::/48")}}
	for i := range ports {
		name := "clients"
		if i == Backends {
			name = "backends"
		}
		s.Ports = append(s.Ports, route.PortState{
			Name: name, Exists: true, Ifindex: i + 2, MAC: PortMAC(i), MTU: portMTU, Up: true,
			Stations: []route.Station{{MAC: PortMAC(i)}},
		})
	}
	clients, backends := &s.Ports[0], &s.Ports[ports-1]
	for _, prefix := range []string{Own4 + "/24", Own6 + "/64"} {
		s.connect(clients, Clients, netip.MustParsePrefix(prefix))
	}
	for _, prefix := range []string{Tunnel4 + "/24", Tunnel6 + "/64"} {
		s.connect(backends, uint8(ports-1), netip.MustParsePrefix(prefix))
	}
	for _, router := range []string{Router4, Router6} {
		via := netip.MustParseAddr(router)
		everything := netip.PrefixFrom(via, 0).Masked()
		s.Routes = append(s.Routes, nexthop.Route{Prefix: everything, Via: via, Port: Clients})
		s.Neighbours = append(s.Neighbours, nexthop.Neighbour{Addr: via, Port: Clients, MAC: RouterMAC})
	}
	for n := firstHost; n <= lastHost; n++ {
		for _, form := range []string{"10.0.0.%d", "2001:db8:a::%d"} {
			host := netip.MustParseAddr(fmt.Sprintf(form, n))
			s.Neighbours = append(s.Neighbours, nexthop.Neighbour{Addr: host, Port: uint8(ports - 1), MAC: HostMAC(n)})
		}
	}
	return s
}

// connect adds an address in a network to the port.
func (s *Surroundings) connect(p *route.PortState, port uint8, prefix netip.Prefix) {
	p.Prefixes = append(p.Prefixes, prefix)
	s.Routes = append(s.Routes, nexthop.Route{Prefix: prefix.Masked(), Port: port})
}

// Forget removes a neighbour, which does not answer from then on, and returns it, so that a test
// can add it again.
func (s *Surroundings) Forget(addr string) nexthop.Neighbour {
	a := netip.MustParseAddr(addr)
	i := slices.IndexFunc(s.Neighbours, func(n nexthop.Neighbour) bool { return n.Addr == a })
	n := s.Neighbours[i]
	s.Silent = append(s.Silent, a)
	s.Neighbours = slices.Delete(s.Neighbours, i, i+1)
	return n
}

// snapshot returns the surroundings as the engine receives them.
func (s *Surroundings) snapshot() *route.Snapshot {
	infos := make([]nexthop.PortInfo, len(s.Ports))
	out := &route.Snapshot{Ports: slices.Clone(s.Ports), Ranges: s.Ranges, Unreachable: maps.Clone(s.Unreachable)}
	silent := slices.Clone(s.Silent)
	out.Asked = func(hop nexthop.Hop) bool { return slices.Contains(silent, hop.Addr) }
	for i, p := range s.Ports {
		infos[i] = nexthop.PortInfo{MAC: p.MAC, MTU: p.MTU, Up: p.Up, Name: p.Name}
		for _, prefix := range p.Prefixes {
			out.Locals = append(out.Locals, prefix.Addr())
			out.Broadcasts = append(out.Broadcasts, route.BroadcastsOf(prefix)...)
		}
	}
	slices.SortFunc(out.Locals, netip.Addr.Compare)
	slices.SortFunc(out.Broadcasts, netip.Addr.Compare)
	out.Table = nexthop.Build(infos, s.Routes, s.Neighbours)
	return out
}

// source returns our address towards dst: the first of its family on the port that leads there.
func (s *Surroundings) source(dst netip.Addr) netip.Addr {
	hop, ok := s.snapshot().Table.NextHop(packet.AddrFrom(dst))
	if !ok {
		return netip.Addr{}
	}
	for _, p := range slices.Backward(s.Ports[hop.Port].Prefixes) {
		if p.Addr().Is4() == dst.Is4() {
			return p.Addr()
		}
	}
	return netip.Addr{}
}
