package route

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sluice/pipeline/counter"
	"sluice/pipeline/rewrite"
)

func addrs(list ...string) (parsed []netip.Addr) {
	for _, a := range list {
		parsed = append(parsed, netip.MustParseAddr(a))
	}
	return parsed
}

func TestFirstSnapshot(t *testing.T) {
	l := newLab(t)
	s := l.start(Config{Ports: []string{"p1", "p0", "p9"}}).Snapshot()
	p1, p9 := s.Ports[0], s.Ports[2]
	if !p1.Exists || !p1.Up || p1.MTU != 1500 || p1.MAC != [6]byte{2, 0, 0, 0, 0, 1} || p1.Ifindex != l.index("p1") {
		t.Errorf("p1: %+v", p1)
	}
	if !slices.Contains(p1.Prefixes, netip.MustParsePrefix("10.1.0.1/24")) || !slices.Contains(p1.Prefixes, netip.MustParsePrefix("2001:db8:1::1/64")) {
		t.Errorf("p1 has the prefixes %v", p1.Prefixes)
	}
	if p9.Exists || p9.Up || p9.Name != "p9" {
		t.Errorf("p9: %+v", p9)
	}
	for _, a := range addrs("10.0.0.1", "2001:db8:1::1") {
		if !slices.Contains(s.Locals, a) {
			t.Errorf("own address %s is missing in %v", a, s.Locals)
		}
	}
	if want := addrs("10.0.0.255", "10.1.0.255"); !slices.Equal(s.Broadcasts, want) {
		t.Errorf("broadcast addresses %v, want %v", s.Broadcasts, want)
	}
	for dst, want := range map[string]counter.Reason{
		"10.0.0.77":   counter.NoNeighbour, // on-link
		"10.0.0.1":    counter.NoRoute,     // own address
		"10.0.0.255":  counter.NoRoute,     // broadcast
		"127.0.0.5":   counter.NoRoute,
		"192.0.2.1":   counter.NoRoute,
		"2001:db8::9": counter.NoNeighbour,
		"fe80::1":     counter.NoRoute, // link-local: which port?
	} {
		if _, reason := look(s, dst); reason != want {
			t.Errorf("%s: %v, want %v", dst, reason, want)
		}
	}
	if !s.OnLink(netip.MustParseAddr("10.0.0.77")) || s.OnLink(netip.MustParseAddr("192.0.2.1")) {
		t.Error("OnLink is wrong")
	}
}

func TestStartErrors(t *testing.T) {
	if _, err := Start(Config{Ports: make([]string, 257)}); err == nil {
		t.Error("257 ports, no error")
	}
}

// TestResolve checks that asking for a neighbour makes the kernel ask the network, in both
// families, on-link and through a gateway.
func TestResolve(t *testing.T) {
	l := newLab(t)
	f := l.start(Config{})
	l.must(l.box.RouteAdd(l.route("192.0.2.0/24", "10.1.0.2", "p1", 0)))
	for _, a := range addrs("10.0.0.2", "2001:db8::2") {
		if !f.Resolve(a) {
			t.Errorf("%s: refused", a)
		}
		if f.Resolve(a) {
			t.Errorf("%s: accepted twice within a second", a)
		}
	}
	goes(t, f, "10.0.0.2", 0, macQ0)
	goes(t, f, "2001:db8::2", 0, macQ0)
	goes(t, f, "192.0.2.1", 1, macQ1) // gateways are resolved without Resolve
	s := f.Snapshot()
	want := rewrite.Link{DMAC: macQ0, SMAC: [6]byte{2, 0, 0, 0, 0, 0}, MTU: 1500}
	if got, _ := look(s, "10.0.0.2"); got != want {
		t.Errorf("link %+v, want %+v", got, want)
	}
}

// TestResolveIsBounded checks that asking for many addresses that do not exist neither fills the
// kernel's table nor prevents others from being resolved.
func TestResolveIsBounded(t *testing.T) {
	l := newLab(t)
	f := l.start(Config{Ports: []string{"p0"}})
	accepted := 0
	for i := range 2000 {
		if f.Resolve(netip.AddrFrom4([4]byte{10, 0, 0, byte(3 + i%250)})) {
			accepted++
		}
	}
	if accepted == 0 || accepted > 2*maxResolves {
		t.Errorf("%d addresses accepted at once", accepted)
	}
	f.SetNeighbours(addrs("10.0.0.2"))
	goes(t, f, "10.0.0.2", 0, macQ0)
	neighs, err := l.box.NeighList(0, netlink.FAMILY_V4)
	l.must(err)
	if len(neighs) > accepted+3 {
		t.Errorf("%d neighbours in the kernel for %d accepted", len(neighs), accepted)
	}
}

func TestRoutesAreFollowed(t *testing.T) {
	l := newLab(t)
	f := l.start(Config{})
	f.SetNeighbours(addrs("10.0.0.2", "10.1.0.2", "2001:db8::2"))
	goes(t, f, "10.0.0.2", 0, macQ0)
	goes(t, f, "10.1.0.2", 1, macQ1)
	goes(t, f, "2001:db8::2", 0, macQ0)

	// Two default routes: the lower metric wins, and when it goes the other takes over.
	costly, cheap := l.route("0.0.0.0/0", "10.0.0.2", "p0", 200), l.route("0.0.0.0/0", "10.1.0.2", "p1", 100)
	l.must(l.box.RouteAdd(costly))
	goes(t, f, "192.0.2.1", 0, macQ0)
	l.must(l.box.RouteAdd(cheap))
	goes(t, f, "192.0.2.1", 1, macQ1)
	l.must(l.box.RouteDel(cheap))
	goes(t, f, "192.0.2.1", 0, macQ0)

	// The same in IPv6, with a link-local gateway.
	l.must(l.box.RouteAdd(l.route("::/0", "2001:db8:0::2", "p0", 200)))
	goes(t, f, "2001:db8:9::1", 0, macQ0)

	l.must(l.box.RouteAdd(&netlink.Route{Dst: mustCIDR("192.0.2.64/26"), Type: unix.RTN_BLACKHOLE}))
	stops(t, f, "192.0.2.65", counter.NoRoute)
	goes(t, f, "192.0.2.1", 0, macQ0)

	// MTU of a route.
	small := l.route("192.0.2.128/25", "10.0.0.2", "p0", 0)
	small.MTU = 1280
	l.must(l.box.RouteAdd(small))
	await(t, f, "the route's MTU", func(s *Snapshot) bool {
		link, reason := look(s, "192.0.2.129")
		return reason == counter.None && link.MTU == 1280
	})

	// An interface that is not one of our ports.
	other := netlink.NewLinkAttrs()
	other.Name = "other"
	l.must(l.box.LinkAdd(&netlink.Veth{LinkAttrs: other, PeerName: "other-end"}))
	l.must(l.box.LinkSetUp(link(t, l.box, "other")))
	l.must(l.box.RouteAdd(l.route("203.0.113.0/24", "", "other", 0)))
	stops(t, f, "203.0.113.1", counter.PortDown)
}

func mustCIDR(s string) *net.IPNet {
	_, n, err := net.ParseCIDR(s)
	if err != nil {
		panic(err)
	}
	return n
}

func TestMultipathIsFollowed(t *testing.T) {
	l := newLab(t)
	f := l.start(Config{})
	l.must(l.box.RouteAdd(&netlink.Route{Dst: mustCIDR("198.51.100.0/24"), MultiPath: []*netlink.NexthopInfo{
		{LinkIndex: l.index("p0"), Gw: net.ParseIP("10.0.0.2")},
		{LinkIndex: l.index("p1"), Gw: net.ParseIP("10.1.0.2"), Hops: 2},
	}}))
	l.must(l.box.RouteAdd(&netlink.Route{Dst: mustCIDR("2001:db8:5::/48"), MultiPath: []*netlink.NexthopInfo{
		{LinkIndex: l.index("p0"), Gw: net.ParseIP("2001:db8:0::2")},
		{LinkIndex: l.index("p1"), Gw: net.ParseIP("2001:db8:1::2")},
	}}))
	for _, pattern := range []string{"198.51.100.%d", "2001:db8:5::%d"} {
		await(t, f, pattern+" over both ports", func(s *Snapshot) bool {
			var share [2]int
			for i := range 200 {
				if link, reason := look(s, fmt.Sprintf(pattern, i)); reason == counter.None {
					share[link.Port]++
				}
			}
			return share[0] > 30 && share[1] > 30 && share[0]+share[1] == 200
		})
	}
}

func TestIPv4ThroughIPv6Gateway(t *testing.T) {
	l := newLab(t)
	f := l.start(Config{})
	r := l.route("198.51.100.0/24", "", "p0", 0)
	r.Scope = netlink.SCOPE_UNIVERSE
	r.Via = &netlink.Via{AddrFamily: unix.AF_INET6, Addr: net.ParseIP("2001:db8:0::2")}
	l.must(l.box.RouteAdd(r))
	goes(t, f, "198.51.100.1", 0, macQ0)
}

func TestNeighbourIsFollowed(t *testing.T) {
	l := newLab(t)
	f := l.start(Config{})
	neighbour := func(state int, mac [6]byte) *netlink.Neigh {
		return &netlink.Neigh{LinkIndex: l.index("p0"), IP: net.ParseIP("10.0.0.50"), State: state, HardwareAddr: mac[:]}
	}
	stops(t, f, "10.0.0.50", counter.NoNeighbour)
	l.must(l.box.NeighSet(neighbour(netlink.NUD_STALE, macQ1)))
	goes(t, f, "10.0.0.50", 0, macQ1)
	l.must(l.box.NeighSet(neighbour(netlink.NUD_REACHABLE, macNew)))
	goes(t, f, "10.0.0.50", 0, macNew)
	l.must(l.box.NeighSet(neighbour(netlink.NUD_FAILED, macNew)))
	stops(t, f, "10.0.0.50", counter.NoNeighbour)
	l.must(l.box.NeighSet(neighbour(netlink.NUD_PERMANENT, macQ0)))
	goes(t, f, "10.0.0.50", 0, macQ0)

	// A kept permanent neighbour stays permanent.
	f.SetNeighbours(addrs("10.0.0.50", "10.0.0.2"))
	goes(t, f, "10.0.0.2", 0, macQ0)
	if state := l.neighbourState("10.0.0.50"); state != netlink.NUD_PERMANENT {
		t.Errorf("state is %#x", state)
	}
	l.must(l.box.NeighDel(neighbour(0, macQ0)))
	stops(t, f, "10.0.0.50", counter.NoNeighbour)
}

// neighbourState returns the kernel's state of an IPv4 neighbour of the box.
func (l *lab) neighbourState(addr string) int {
	neighs, err := l.box.NeighList(0, netlink.FAMILY_V4)
	l.must(err)
	for _, n := range neighs {
		if n.IP.String() == addr {
			return n.State
		}
	}
	return -1
}

// TestMACChangeIsFollowed checks that a backend that announces another MAC address is followed at
// once.
func TestMACChangeIsFollowed(t *testing.T) {
	l := newLab(t)
	f := l.start(Config{})
	f.SetNeighbours(addrs("10.0.0.2"))
	goes(t, f, "10.0.0.2", 0, macQ0)
	// It sends a gratuitous ARP: arp_notify.
	l.must(l.peer.LinkSetHardwareAddr(link(t, l.peer, "q0"), macNew[:]))
	goes(t, f, "10.0.0.2", 0, macNew)
}

// TestKeptNeighbourStaysFresh checks that a kept stale neighbour is confirmed again, and resolved
// again if its MAC address has changed silently.
func TestKeptNeighbourStaysFresh(t *testing.T) {
	l := newLab(t)
	f := l.start(Config{Probe: 50 * time.Millisecond})
	backends := addrs("10.0.0.2", "2001:db8::2")
	f.SetNeighbours(backends)
	for _, a := range backends {
		goes(t, f, a.String(), 0, macQ0)
		// As if the machine had got another MAC address unnoticed: the old one is wrong, and stale.
		l.must(l.box.NeighSet(&netlink.Neigh{LinkIndex: l.index("p0"), IP: a.AsSlice(), State: netlink.NUD_STALE, HardwareAddr: macNew[:]}))
		goes(t, f, a.String(), 0, macNew)
		goes(t, f, a.String(), 0, macQ0)
	}
	deadline := time.Now().Add(20 * time.Second)
	for l.neighbourState("10.0.0.2") != netlink.NUD_REACHABLE {
		if time.Now().After(deadline) {
			t.Fatal("never confirmed")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestLinkDownAndUp(t *testing.T) {
	l := newLab(t)
	f := l.start(Config{})
	f.SetNeighbours(addrs("10.0.0.2"))
	l.must(l.box.RouteAdd(l.route("0.0.0.0/0", "10.0.0.2", "p0", 0)))
	goes(t, f, "192.0.2.1", 0, macQ0)

	// Carrier lost: routes stay, as in the kernel.
	l.must(l.peer.LinkSetDown(link(t, l.peer, "q0")))
	stops(t, f, "10.0.0.2", counter.PortDown)
	stops(t, f, "192.0.2.1", counter.PortDown)
	l.must(l.peer.LinkSetUp(link(t, l.peer, "q0")))
	goes(t, f, "10.0.0.2", 0, macQ0)
	goes(t, f, "192.0.2.1", 0, macQ0)

	// Taken down: the kernel drops the routes.
	l.must(l.box.LinkSetDown(link(t, l.box, "p0")))
	stops(t, f, "10.0.0.2", counter.NoRoute)
	stops(t, f, "192.0.2.1", counter.NoRoute)
	l.must(l.box.LinkSetUp(link(t, l.box, "p0")))
	goes(t, f, "10.0.0.2", 0, macQ0)

	l.must(l.box.LinkSetMTU(link(t, l.box, "p0"), 1400))
	await(t, f, "the port's MTU", func(s *Snapshot) bool {
		link, _ := look(s, "10.0.0.2")
		return s.Ports[0].MTU == 1400 && link.MTU == 1400
	})
}

func TestInterfaceIsMadeAgain(t *testing.T) {
	l := newLab(t)
	f := l.start(Config{})
	f.SetNeighbours(addrs("10.0.0.2"))
	goes(t, f, "10.0.0.2", 0, macQ0)
	before := f.Snapshot().Ports[0].Ifindex
	l.must(l.box.LinkDel(link(t, l.box, "p0")))
	await(t, f, "p0 is gone", func(s *Snapshot) bool { return !s.Ports[0].Exists && s.Ports[1].Exists })
	l.wire(0)
	goes(t, f, "10.0.0.2", 0, macQ0)
	if p := f.Snapshot().Ports[0]; p.Ifindex == before || p.Ifindex != l.index("p0") {
		t.Errorf("ifindex %d, before %d, the kernel says %d", p.Ifindex, before, l.index("p0"))
	}
}

// TestLostNotifications checks that lost notifications cost a complete reading only: with a tiny
// buffer, a burst of changes still ends in the right table.
func TestLostNotifications(t *testing.T) {
	l := newLab(t)
	f := l.start(Config{Relist: time.Hour, receiveBuffer: 1})
	f.SetNeighbours(addrs("10.0.0.2"))
	goes(t, f, "10.0.0.2", 0, macQ0)
	for i := range 1000 {
		l.must(l.box.RouteAdd(l.route(fmt.Sprintf("172.%d.%d.0/24", 16+i/256, i%256), "10.0.0.2", "p0", 0)))
	}
	goes(t, f, "172.19.231.1", 0, macQ0)
	goes(t, f, "172.16.0.1", 0, macQ0)
}

func TestSource(t *testing.T) {
	l := newLab(t)
	f := l.start(Config{})
	r := l.route("192.0.2.0/24", "10.1.0.2", "p1", 0)
	l.addr(l.box, "p1", "10.1.0.77/32")
	r.Src = net.ParseIP("10.1.0.77")
	l.must(l.box.RouteAdd(r))
	for dst, want := range map[string]string{"10.0.0.9": "10.0.0.1", "192.0.2.1": "10.1.0.77", "2001:db8:1::9": "2001:db8:1::1"} {
		if got, err := f.Source(netip.MustParseAddr(dst)); err != nil || got.String() != want {
			t.Errorf("source towards %s: %v %v, want %s", dst, got, err, want)
		}
	}
	if got, err := f.Source(netip.MustParseAddr("198.18.0.1")); err == nil {
		t.Errorf("source towards nowhere: %v", got)
	}
}
