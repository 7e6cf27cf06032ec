package steer_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"sluice/engine/steer"
	"sluice/pipeline/service"
)

func TestRuleErrors(t *testing.T) {
	enterNamespace(t)
	program := load(t)
	good := key(web4, 80, 80, service.TCP)
	for _, c := range []struct {
		rules steer.Rules
		want  []string
	}{
		{steer.Rules{Services: []service.Key{good, key("0.0.0.0", 80, 80, service.TCP)}}, []string{"service rule tcp 0.0.0.0:80"}},
		{steer.Rules{Services: []service.Key{{Ports: service.AnyPort, Protocol: service.TCP}}}, []string{"service rule", "invalid IP"}},
		{steer.Rules{Services: []service.Key{key("ff02::1", 80, 80, service.TCP)}}, []string{"service rule", "ff02::1"}},
		{steer.Rules{Services: []service.Key{key(web4, 80, 80, 132)}}, []string{"service rule", "tcp or udp"}},
		{steer.Rules{Replies: []service.Key{key(b4, 0, 0, service.UDP)}}, []string{"reply rule udp 10.0.0.11:0", "0-65535"}},
		{steer.Rules{Pools: []service.Key{key(l6, 9, 8, service.UDP)}}, []string{"pool rule udp [fd00::2]:9-8", "rising order"}},
	} {
		err := program.Set(c.rules)
		if err == nil {
			t.Errorf("no error for %+v", c.rules)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("error %q lacks %q", err, want)
			}
		}
	}
}

// TestPortRanges tries ranges of all shapes at all ports around their ends and, between, at a
// sample.
func TestPortRanges(t *testing.T) {
	enterNamespace(t)
	program := load(t)
	port := attach(t, program, loopback(t), steer.Generic)
	frame := packet(t, ip(client4, web4, pTCP), tcp(1234, 0))
	random := rand.New(rand.NewPCG(3, 4))
	ranges := []service.Ports{{First: 1, Last: 65535}, {First: 0, Last: 1}, {First: 32767, Last: 32768}, {First: 65535, Last: 65535}, service.AnyPort}
	for range 40 {
		a, b := uint16(random.Uint32()), uint16(random.Uint32())
		ranges = append(ranges, service.Ports{First: min(a, b), Last: max(a, b)})
	}
	for _, r := range ranges {
		rules := steer.Rules{Services: []service.Key{{Address: netip.MustParseAddr(web4), Ports: r, Protocol: service.TCP}}, Stations: stations(loopbackIndex)}
		if err := program.Set(rules); err != nil {
			t.Fatal(err)
		}
		ports := []uint16{0, 65535, r.First - 1, r.First, r.First + 1, r.Last - 1, r.Last, r.Last + 1}
		for range 500 {
			ports = append(ports, uint16(random.Uint32()))
		}
		for _, p := range ports {
			frame[36], frame[37] = byte(p>>8), byte(p)
			if got := isOurs(t, port, frame); got != r.Contains(p) {
				t.Fatalf("ports %s: port %d ours = %v", r, p, got)
			}
		}
	}
}

// manyServices gives n services with n addresses, the same for the same salt and others for
// another.
func manyServices(n int, salt byte, ports service.Ports) (keys []service.Key) {
	for i := range n {
		address := netip.AddrFrom4([4]byte{100, salt, byte(i >> 8), byte(i)})
		keys = append(keys, service.Key{Address: address, Ports: ports, Protocol: service.TCP})
	}
	return keys
}

// TestCapacity fills the maps to the limits that doc.go gives, exchanges all of it, and goes
// beyond.
func TestCapacity(t *testing.T) {
	enterNamespace(t)
	program := load(t)
	port := attach(t, program, loopback(t), steer.Generic)
	ours := func(address string) bool {
		return isOurs(t, port, packet(t, ip(client4, address, pTCP), tcp(1234, 86)))
	}
	const addresses = 32768
	for _, salt := range []byte{64, 65} {
		// Per address: two single ports, and two blocks (86-87, 88-89).
		keys := manyServices(addresses, salt, service.Ports{First: 80, Last: 80})
		keys = append(keys, manyServices(addresses, salt, service.Ports{First: 81, Last: 81})...)
		keys = append(keys, manyServices(addresses, salt, service.Ports{First: 86, Last: 89})...)
		if err := program.Set(steer.Rules{Services: keys, Stations: stations(loopbackIndex)}); err != nil {
			t.Fatal(err)
		}
		for _, other := range []byte{64, 65} {
			if got := ours(fmt.Sprintf("100.%d.77.88", other)); got != (other == salt) {
				t.Errorf("rules %d: address of rules %d ours = %v", salt, other, got)
			}
		}
	}
	const limit = 1 << 19
	many := func(n int, ports service.Ports) (keys []service.Key) {
		for salt := byte(66); n > 0; salt, n = salt+1, n-1<<16 {
			keys = append(keys, manyServices(min(n, 1<<16), salt, ports)...)
		}
		return keys
	}
	for _, c := range []struct {
		keys []service.Key
		want string
	}{
		{many(limit+1, service.AnyPort), "524289 addresses"},
		{append(many(limit/2, service.Ports{First: 1, Last: 1}), many(limit/2+1, service.Ports{First: 2, Last: 2})...), "524289 single ports"},
		{append(many(limit/4, service.Ports{First: 1, Last: 8}), key(web4, 2, 3, service.TCP)), "524289 blocks of port ranges"},
	} {
		err := program.Set(steer.Rules{Services: c.keys})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "configure fewer") {
			t.Errorf("error %v, want one with %q", err, c.want)
		}
	}
	if !ours("100.65.77.88") {
		t.Error("a Set that failed has changed the rules")
	}
}
