package nexthop_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"sluice/pipeline/counter"
	. "sluice/pipeline/nexthop"
	"sluice/pipeline/packet"
	"sluice/pipeline/rewrite"
)

var (
	mac0 = [6]byte{2, 0, 0, 0, 0, 0}
	mac1 = [6]byte{2, 0, 0, 0, 0, 1}
	macA = [6]byte{4, 0, 0, 0, 0, 0xa}
	macB = [6]byte{4, 0, 0, 0, 0, 0xb}
)

func twoPorts() []PortInfo {
	return []PortInfo{{MAC: mac0, MTU: 1500, Up: true, Name: "p0"}, {MAC: mac1, MTU: 9000, Up: true, Name: "p1"}}
}

func onLink(prefix string, port uint8) Route {
	return Route{Prefix: netip.MustParsePrefix(prefix), Port: port}
}

func via(prefix, gateway string, port uint8) Route {
	return Route{Prefix: netip.MustParsePrefix(prefix), Via: netip.MustParseAddr(gateway), Port: port}
}

func at(addr string, port uint8, mac [6]byte) Neighbour {
	return Neighbour{Addr: netip.MustParseAddr(addr), Port: port, MAC: mac}
}

// addr parses an address for a lookup.
func addr(s string) packet.Addr { return packet.AddrFrom(netip.MustParseAddr(s)) }

func TestLookup(t *testing.T) {
	linkA := rewrite.Link{DMAC: macA, SMAC: mac0, MTU: 1500, Port: 0}
	linkB := rewrite.Link{DMAC: macB, SMAC: mac1, MTU: 9000, Port: 1}
	down := twoPorts()
	down[1].Up = false
	vlan := onLink("10.7.0.0/16", 0)
	vlan.VLAN, vlan.MTU = 7, 1400
	costly, cheap := via("0.0.0.0/0", "10.0.0.1", 0), via("0.0.0.0/0", "10.1.0.1", 1)
	costly.Metric, cheap.Metric = 200, 100

	for _, c := range []struct {
		name       string
		ports      []PortInfo
		routes     []Route
		neighbours []Neighbour
		dst        string
		want       rewrite.Link
		reason     counter.Reason
	}{
		{"empty table", nil, nil, nil, "10.0.0.1", rewrite.Link{}, counter.NoRoute},
		{"on-link", twoPorts(), []Route{onLink("10.0.0.0/24", 0)}, []Neighbour{at("10.0.0.5", 0, macA)},
			"10.0.0.5", linkA, counter.None},
		{"on-link, unresolved", twoPorts(), []Route{onLink("10.0.0.0/24", 0)}, []Neighbour{at("10.0.0.5", 0, macA)},
			"10.0.0.6", rewrite.Link{}, counter.NoNeighbour},
		{"neighbour known at another port only", twoPorts(), []Route{onLink("10.0.0.0/24", 0)}, []Neighbour{at("10.0.0.5", 1, macA)},
			"10.0.0.5", rewrite.Link{}, counter.NoNeighbour},
		{"neighbour with an address that is routed elsewhere", twoPorts(), []Route{onLink("10.0.0.0/24", 0), via("10.0.0.5/32", "10.1.0.1", 1)},
			[]Neighbour{at("10.0.0.5", 0, macA), at("10.1.0.1", 1, macB)}, "10.0.0.5", linkB, counter.None},
		{"gateway", twoPorts(), []Route{onLink("10.1.0.0/24", 1), via("0.0.0.0/0", "10.1.0.1", 1)}, []Neighbour{at("10.1.0.1", 1, macB)},
			"198.51.100.7", linkB, counter.None},
		{"gateway, unresolved", twoPorts(), []Route{via("0.0.0.0/0", "10.1.0.1", 1)}, nil,
			"198.51.100.7", rewrite.Link{}, counter.NoNeighbour},
		{"IPv6", twoPorts(), []Route{onLink("2001:db8::/64", 0), via("::/0", "fe80::1", 1)},
			[]Neighbour{at("2001:db8::5", 0, macA), at("fe80::1", 1, macB)}, "2001:db8:1::9", linkB, counter.None},
		{"IPv4 by way of an IPv6 gateway", twoPorts(), []Route{via("0.0.0.0/0", "fe80::1", 1)},
			[]Neighbour{at("fe80::1", 0, macA), at("fe80::1", 1, macB)}, "198.51.100.7", linkB, counter.None},
		{"IPv4 is never matched by ::/0", twoPorts(), []Route{via("::/0", "fe80::1", 1)}, []Neighbour{at("fe80::1", 1, macB)},
			"198.51.100.7", rewrite.Link{}, counter.NoRoute},
		{"VLAN and its MTU", twoPorts(), []Route{vlan}, []Neighbour{{Addr: netip.MustParseAddr("10.7.0.1"), Port: 0, VLAN: 7, MAC: macA}},
			"10.7.0.1", rewrite.Link{DMAC: macA, SMAC: mac0, VLAN: 7, MTU: 1400, Port: 0}, counter.None},
		{"neighbour known in another VLAN only", twoPorts(), []Route{vlan}, []Neighbour{at("10.7.0.1", 0, macA)},
			"10.7.0.1", rewrite.Link{}, counter.NoNeighbour},
		{"neighbour known in two VLANs", twoPorts(), []Route{vlan}, []Neighbour{at("10.7.0.1", 0, macB), {Addr: netip.MustParseAddr("10.7.0.1"), Port: 0, VLAN: 7, MAC: macA}},
			"10.7.0.1", rewrite.Link{DMAC: macA, SMAC: mac0, VLAN: 7, MTU: 1400, Port: 0}, counter.None},
		{"lower metric wins", twoPorts(), []Route{costly, cheap}, []Neighbour{at("10.0.0.1", 0, macA), at("10.1.0.1", 1, macB)},
			"198.51.100.7", linkB, counter.None},
		{"lower metric wins though its port is down", down, []Route{costly, cheap}, []Neighbour{at("10.0.0.1", 0, macA)},
			"198.51.100.7", rewrite.Link{}, counter.PortDown},
		{"port is down", down, []Route{onLink("10.1.0.0/24", 1)}, []Neighbour{at("10.1.0.5", 1, macA)},
			"10.1.0.5", rewrite.Link{}, counter.PortDown},
		{"foreign interface", twoPorts(), []Route{{Prefix: netip.MustParsePrefix("10.9.0.0/16"), Kind: Foreign}}, nil,
			"10.9.0.1", rewrite.Link{}, counter.PortDown},
		{"port that doesn't exist", twoPorts(), []Route{onLink("10.9.0.0/16", 9)}, nil,
			"10.9.0.1", rewrite.Link{}, counter.PortDown},
		{"blackhole inside a route", twoPorts(), []Route{via("10.0.0.0/8", "10.1.0.1", 1), {Prefix: netip.MustParsePrefix("10.66.0.0/16"), Kind: Blackhole}},
			[]Neighbour{at("10.1.0.1", 1, macB)}, "10.66.255.255", rewrite.Link{}, counter.NoRoute},
		{"behind a blackhole", twoPorts(), []Route{via("10.0.0.0/8", "10.1.0.1", 1), {Prefix: netip.MustParsePrefix("10.66.0.0/16"), Kind: Blackhole}},
			[]Neighbour{at("10.1.0.1", 1, macB)}, "10.67.0.0", linkB, counter.None},
	} {
		t.Run(c.name, func(t *testing.T) {
			link, reason := Build(c.ports, c.routes, c.neighbours).Lookup(addr(c.dst))
			if reason != c.reason {
				t.Fatalf("%v, want %v", reason, c.reason)
			}
			if reason == counter.None && *link != c.want {
				t.Fatalf("%+v, want %+v", *link, c.want)
			}
		})
	}
}

func TestWant(t *testing.T) {
	routes := []Route{onLink("10.0.0.0/24", 0), via("0.0.0.0/0", "10.0.0.1", 0), {Prefix: netip.MustParsePrefix("10.9.0.0/16"), Kind: Foreign}}
	table := Build(twoPorts(), routes, []Neighbour{at("10.0.0.5", 0, macA)})
	for dst, want := range map[string]string{"10.0.0.5": "10.0.0.5", "10.0.0.6": "10.0.0.6", "192.0.2.1": "10.0.0.1", "10.9.0.1": "", "2001:db8::1": ""} {
		hop, ok := table.NextHop(addr(dst))
		if ok != (want != "") || ok && hop != (Hop{Addr: netip.MustParseAddr(want)}) {
			t.Errorf("%s wants %+v %v, want %q", dst, hop, ok, want)
		}
	}
}

// A route with several legs uses all that work, evenly, and always the same one for a destination.
func TestMultipath(t *testing.T) {
	route := via("0.0.0.0/0", "10.0.0.1", 0)
	route.Also = []Leg{{Via: netip.MustParseAddr("10.1.0.1"), Port: 1}, {Via: netip.MustParseAddr("10.1.0.1"), Port: 1}}
	both := []Neighbour{at("10.0.0.1", 0, macA), at("10.1.0.1", 1, macB)}
	spread := func(ports []PortInfo, neighbours []Neighbour) (share map[[6]byte]int) {
		share = make(map[[6]byte]int)
		one, two := Build(ports, []Route{route}, neighbours), Build(ports, []Route{route}, neighbours)
		for i := range uint32(9000) {
			dst := packet.AddrFrom4(0xc6336400 + i)
			link, reason := one.Lookup(dst)
			if reason != counter.None {
				share[[6]byte{byte(reason)}]++
				continue
			}
			if again, _ := two.Lookup(dst); *again != *link {
				t.Fatalf("%v goes to %v, and by an equal table to %v", dst, link, again)
			}
			share[link.DMAC]++
		}
		return share
	}
	if s := spread(twoPorts(), both); s[macA] < 2700 || s[macA] > 3300 || s[macA]+s[macB] != 9000 {
		t.Errorf("legs weighted 1:2 share 9000 destinations as %v", s)
	}
	if s := spread(twoPorts(), both[:1]); s[macA] != 9000 {
		t.Errorf("with one gateway unresolved: %v", s)
	}
	down := twoPorts()
	down[0].Up = false
	if s := spread(down, both); s[macB] != 9000 {
		t.Errorf("with one port down: %v", s)
	}
	if s := spread(twoPorts(), nil); s[[6]byte{byte(counter.NoNeighbour)}] != 9000 {
		t.Errorf("with both gateways unresolved: %v", s)
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	table := Build(twoPorts(), []Route{onLink("10.0.0.0/24", 0), onLink("2001:db8::/64", 1)}, []Neighbour{at("10.0.0.5", 0, macA)})
	dsts := []packet.Addr{addr("10.0.0.5"), addr("10.0.0.6"), addr("2001:db8::7"), addr("192.0.2.1")}
	if n := testing.AllocsPerRun(100, func() {
		for _, dst := range dsts {
			table.Lookup(dst)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// internet draws prefixes in about the mix of lengths of the global table.
func internet(n int) []Route {
	rng := rand.New(rand.NewPCG(5, 6))
	routes := make([]Route, n)
	for i := range routes {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], rng.Uint32())
		bits := 24
		if rng.IntN(5) < 2 {
			bits = 12 + rng.IntN(12)
		}
		gateway := netip.AddrFrom4([4]byte{10, 0, 0, byte(rng.IntN(8))})
		routes[i] = Route{Prefix: netip.PrefixFrom(netip.AddrFrom4(a), bits).Masked(), Via: gateway}
	}
	return routes
}

func gateways(n int) (neighbours []Neighbour) {
	for i := range n {
		neighbours = append(neighbours, Neighbour{Addr: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), MAC: [6]byte{4, 0, 0, 0, byte(i >> 8), byte(i)}})
	}
	return neighbours
}

func BenchmarkBuild(b *testing.B) {
	routes, neighbours := internet(1_000_000), gateways(8)
	for b.Loop() {
		Build(twoPorts(), routes, neighbours)
	}
}

func BenchmarkLookup(b *testing.B) {
	small := []Route{onLink("10.0.0.0/16", 0), via("0.0.0.0/0", "10.0.0.1", 0), onLink("10.1.0.0/16", 1), onLink("2001:db8::/64", 0), via("::/0", "2001:db8::1", 0)}
	for i := range 10 {
		small = append(small, via(fmt.Sprintf("172.16.%d.0/24", i), "10.0.0.1", 0))
	}
	rng := rand.New(rand.NewPCG(7, 8))
	var hosts, v4, v6 [4096]packet.Addr
	for i := range v4 {
		hosts[i] = packet.AddrFrom4(10<<24 | rng.Uint32N(1000))
		v4[i] = packet.AddrFrom4(rng.Uint32())
		v6[i] = packet.Addr{Hi: 0x2001<<48 | rng.Uint64N(1<<48), Lo: rng.Uint64()}
	}
	for _, c := range []struct {
		name   string
		routes []Route
		dsts   *[4096]packet.Addr
	}{{"small/host", small, &hosts}, {"small/v4", small, &v4}, {"small/v6", small, &v6}, {"internet/v4", internet(1_000_000), &v4}} {
		table := Build(twoPorts(), c.routes, gateways(1000))
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				table.Lookup(c.dsts[i&4095])
				i++
			}
		})
	}
}
