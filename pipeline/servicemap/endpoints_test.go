package servicemap

import (
	"testing"

	"sluice/pipeline/packet"
)

// probes returns how many slots a search for the key reads.
func (e *Endpoints) probes(addr packet.Addr, port uint16, proto uint8) int {
	end := End(port, proto)
	if addr.Is4() {
		at := hash4(Key4(addr.V4(), end))
		for n := 1; ; n++ {
			if &e.v4[(at+uint64(n-1))&uint64(len(e.v4)-1)] == e.slot4(Key4(addr.V4(), end)) {
				return n
			}
		}
	}
	at := hash6(addr, end)
	for n := 1; ; n++ {
		if &e.v6[(at+uint64(n-1))&uint64(len(e.v6)-1)] == e.slot6(addr, end) {
			return n
		}
	}
}

// TestEndpointsScatter fills maps with services as operators number them. No key needs many reads,
// and the average is low.
func TestEndpointsScatter(t *testing.T) {
	const n = 2000
	type key struct {
		addr packet.Addr
		port uint16
	}
	for name, at := range map[string]func(i int) key{
		"ports of one address":             func(i int) key { return key{packet.AddrFrom4(0xc6336401), uint16(1000 + i)} },
		"IPv4 addresses in a row":          func(i int) key { return key{packet.AddrFrom4(0xc6336401 + uint32(i)), 80} },
		"IPv4 networks in a row":           func(i int) key { return key{packet.AddrFrom4(uint32(i)<<8 | 0x0a000001), 443} },
		"IPv6 addresses in a row":          func(i int) key { return key{packet.Addr{Hi: 0x20010db8 << 32, Lo: uint64(i)}, 80} },
		"IPv6 networks in a row":           func(i int) key { return key{packet.Addr{Hi: 0x20010db8<<32 | uint64(i), Lo: 1}, 80} },
		"IPv4 /18 networks in a row":       func(i int) key { return key{packet.AddrFrom4(uint32(i)<<14 + 0x0a000001), 443} },
		"address and port in step":         func(i int) key { return key{packet.AddrFrom4(0xc6336401 + uint32(i)), uint16(1000 + i)} },
		"address and port in counter-step": func(i int) key { return key{packet.AddrFrom4(0xc6336401 + uint32(i)), uint16(9000 - i)} },
		"addresses, each 10 ports":         func(i int) key { return key{packet.AddrFrom4(0xc6336401 + uint32(i/10)), uint16(80 + i%10)} },
	} {
		e := NewEndpoints(n)
		for i := range n {
			k := at(i)
			e.Put(k.addr, k.port, 6, uint32(i+1))
		}
		sum, worst := 0, 0
		for i := range n {
			k := at(i)
			if got := e.Get(k.addr, k.port, 6); got != uint32(i+1) {
				t.Fatalf("%s: key %d gives %d", name, i, got)
			}
			p := e.probes(k.addr, k.port, 6)
			sum, worst = sum+p, max(worst, p)
		}
		if sum > 2*n || worst > 32 {
			t.Errorf("%s: %.1f reads on average, %d at worst", name, float64(sum)/n, worst)
		}
	}
}
