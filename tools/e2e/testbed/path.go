package testbed

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// Ports of the services, and of the backends where NAT translates them. Backends listen on all of
// them.
const (
	WebPort    = 80 // HTTP
	NATWebPort = 8080
	UDPPort    = 5353 // request and response
	NATUDPPort = 5300
)

// Path is one way from a client to the backends: a mode, the family of the service's address, and
// that of the backends' addresses, which differs only in tunnels.
type Path struct {
	Mode    string // nat, tun or dr
	Family  int    // of the client and the service: 4 or 6
	Backend int    // of the backends: 4 or 6
}

// Paths lists the paths of nat, tun and dr in both families, and the tunnels that carry one family
// in the other.
var Paths = []Path{
	{"nat", 4, 4}, {"tun", 4, 4}, {"dr", 4, 4},
	{"nat", 6, 6}, {"tun", 6, 6}, {"dr", 6, 6},
	{"tun", 4, 6}, {"tun", 6, 4},
}

// FullNATPaths lists the paths on which backends do not see the client: answers go to the
// balancer's own address.
var FullNATPaths = []Path{{"fullnat", 4, 4}, {"fullnat", 6, 6}}

// ModePaths lists the paths of all modes, with one family all the way.
var ModePaths = []Path{
	{"nat", 4, 4}, {"nat", 6, 6}, {"fullnat", 4, 4}, {"fullnat", 6, 6},
	{"tun", 4, 4}, {"tun", 6, 6}, {"dr", 4, 4}, {"dr", 6, 6},
}

// AllPaths lists all paths.
var AllPaths = slices.Concat(Paths, FullNATPaths)

// String returns the path's name, such as "dr4"; "tun4in6" is IPv4 in an IPv6 tunnel.
func (p Path) String() string {
	if p.Family != p.Backend {
		return fmt.Sprintf("%s%din%d", p.Mode, p.Family, p.Backend)
	}
	return fmt.Sprintf("%s%d", p.Mode, p.Family)
}

// Address returns the address of the path's services. Every path has one of its own.
func (p Path) Address() netip.Addr {
	host := map[string]byte{"nat": 10, "tun": 20, "dr": 30, "fullnat": 40}[p.Mode]
	if p.Family != p.Backend {
		host += 5
	}
	return vipNet[p.Family].host(host)
}

// URL returns the URL of the path's HTTP service.
func (p Path) URL() string {
	return "http://" + netip.AddrPortFrom(p.Address(), WebPort).String()
}

// UDP returns the address of the path's UDP service.
func (p Path) UDP() string { return netip.AddrPortFrom(p.Address(), UDPPort).String() }

// OnLink returns an address that is on-link for the router, on the cable to the balancer's first
// port.
func OnLink(family int) netip.Addr { return frontNet[family].host(onLinkHost) }

// OwnFront returns the balancer's own address at its first port.
func OwnFront(family int) netip.Addr { return frontNet[family].host(balancerHost) }

// Client returns the client's address in the path's family.
func (p Path) Client() netip.Addr { return clientNet[p.Family].host(clientHost) }

// Seen returns the client address that the backends see: on a fullnat path the balancer's.
func (p Path) Seen() netip.Addr {
	if p.Mode == "fullnat" {
		return backNet[p.Backend].host(balancerHost)
	}
	return p.Client()
}

// SecondSource returns an address that fullnat services may send from besides Path.Seen, after
// Bed.AddSources.
func SecondSource(family int) netip.Addr { return backNet[family].host(sourceHost) }

// subnet is one of the testbed's networks in one family; its hosts have numbers, the same in both.
type subnet struct{ netip.Prefix }

func (s subnet) host(n byte) netip.Addr {
	if s.Addr().Is6() {
		return netip.MustParseAddr(fmt.Sprintf("%s%d", s.Addr(), n)) // 2001:db8:c:: and 254
	}
	b := s.Addr().As4()
	b[3] = n
	return netip.AddrFrom4(b)
}

// cidr returns a host's address with the prefix length.
func (s subnet) cidr(n byte) string { return netip.PrefixFrom(s.host(n), s.Bits()).String() }

func nets(v4, v6 string) map[int]subnet {
	return map[int]subnet{4: {netip.MustParsePrefix(v4)}, 6: {netip.MustParsePrefix(v6)}}
}

// The testbed's networks, by family.
var (
	clientNet = nets("192.0.2.0/24", "2001:db8:c::/64") // client - router
	frontNet  = nets("10.1.0.0/24", "fd00:1::/64")      // router - balancer
	backNet   = nets("10.2.0.0/24", "fd00:2::/64")      // switch: balancer, router, backends
	secondNet = nets("10.3.0.0/24", "fd00:3::/64")      // router - second balancer
	vipNet    = nets("198.51.100.0/24", "2001:db8:f::/64")
)

// The hosts' numbers in them.
const (
	balancerHost = 1
	sourceHost   = 3 // the balancer again, if AddSources was called
	clientHost   = 2
	secondHost   = 4  // the second balancer, among the backends
	backendHost  = 10 // and b1 is 11
	onLinkHost   = 100
	routerHost   = 254
)

var everywhere = map[int]string{4: "0.0.0.0/0", 6: "::/0"}

var families = []int{4, 6}

// listen returns the addresses that a backend listens on.
func listen(ports ...int) (all []string) {
	for _, port := range ports {
		all = append(all, net.JoinHostPort("", fmt.Sprint(port)))
	}
	return all
}
