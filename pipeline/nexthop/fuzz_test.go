package nexthop

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
)

// source draws small numbers from fuzz bytes; it gives zeros when they are used up.
type source struct{ bytes []byte }

func (s *source) n(below int) int {
	if len(s.bytes) == 0 {
		return 0
	}
	b := s.bytes[0]
	s.bytes = s.bytes[1:]
	return int(b) % below
}

// addr draws from few enough addresses that routes, neighbours and lookups meet, the ends of both
// families and the neighbourhood of IPv4 inside IPv6 among them.
func (s *source) addr() netip.Addr {
	if s.n(2) == 0 {
		tops := [4]byte{0, 10, 11, 255}
		low := [4]byte{0, 1, 128, 255}
		return netip.AddrFrom4([4]byte{tops[s.n(4)], low[s.n(4)], 0, low[s.n(4)]})
	}
	var a [16]byte
	if s.n(8) == 0 {
		a[10], a[11] = 0xff, byte(0xfe+s.n(2)) // ::fffe:0:0 and ::ffff:0:0
		if a[11] == 0xff {
			a[10] = 0xfe
		}
	} else {
		tops := [4]byte{0, 0x20, 0xfe, 0xff}
		a[0], a[7], a[8] = tops[s.n(4)], byte(s.n(3)*127), byte(s.n(3)*127)
	}
	a[15] = byte(s.n(3) * 127)
	if s.n(16) == 0 {
		for i := range a {
			a[i] = 0xff
		}
	}
	return netip.AddrFrom16(a)
}

func (s *source) leg() Leg {
	leg := Leg{Port: uint8(s.n(4)), VLAN: uint16(s.n(2) * 7), MTU: uint16(s.n(3) * 900)}
	if k := s.n(10); k < 2 {
		leg.Kind = Kind(k + 1)
	}
	if s.n(2) == 0 {
		leg.Via = s.addr()
	}
	return leg
}

func (s *source) route() Route {
	a := s.addr()
	bits := s.n(a.BitLen() + 1)
	if s.n(3) == 0 {
		bits = a.BitLen() - s.n(9)
	}
	leg := s.leg()
	r := Route{netip.PrefixFrom(a, bits), leg.Via, leg.Port, leg.VLAN, leg.MTU, leg.Kind, uint32(s.n(3)), nil}
	if s.n(4) == 0 {
		for range 1 + s.n(3) {
			r.Also = append(r.Also, s.leg())
		}
	}
	return r
}

func (s *source) table() *slowTable {
	t := &slowTable{}
	for i := range s.n(4) {
		t.ports = append(t.ports, PortInfo{MAC: [6]byte{2, 0, 0, 0, 0, byte(i)}, MTU: 1500, Up: s.n(4) != 0})
	}
	for range s.n(24) {
		t.routes = append(t.routes, s.route())
	}
	for i := range s.n(24) {
		t.neighbours = append(t.neighbours, Neighbour{s.addr(), uint8(s.n(3)), uint16(s.n(2) * 7), [6]byte{4, byte(i)}})
	}
	return t
}

// compare checks the table against its twin at one address.
func compare(t *testing.T, fast *Table, slow *slowTable, dst netip.Addr) {
	t.Helper()
	wantLink, wantReason, wantHop, wantOK := slow.lookup(dst)
	link, reason := fast.Lookup(packet.AddrFrom(dst))
	if reason != wantReason || (link != nil) != (reason == counter.None) {
		t.Fatalf("%s: %v, link %v; want %v\n%+v", dst, reason, link, wantReason, slow)
	}
	if reason == counter.None && *link != wantLink {
		t.Fatalf("%s: link %+v, want %+v\n%+v", dst, *link, wantLink, slow)
	}
	if hop, ok := fast.NextHop(packet.AddrFrom(dst)); hop != wantHop || ok != wantOK {
		t.Fatalf("%s: wants %+v %v, want %+v %v\n%+v", dst, hop, ok, wantHop, wantOK, slow)
	}
}

// check compares at drawn addresses and at both sides of every border that the lists mention.
func check(t *testing.T, s *source) {
	slow := s.table()
	fast := Build(slow.ports, slow.routes, slow.neighbours)
	dsts := []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	for range 16 {
		dsts = append(dsts, s.addr())
	}
	for _, n := range slow.neighbours {
		dsts = append(dsts, n.Addr)
	}
	for _, r := range slow.routes {
		p := r.Prefix.Masked()
		end := packet.AddrFrom(p.Addr())
		if bits := p.Bits(); p.Addr().Is4() {
			end = last(end, bits+96)
		} else {
			end = last(end, bits)
		}
		dsts = append(dsts, p.Addr(), p.Addr().Prev(), end.Netip(), end.Netip().Next())
	}
	for _, dst := range dsts {
		if dst.IsValid() && !dst.Is4In6() {
			compare(t, fast, slow, dst)
		}
	}
}

func FuzzTable(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		seed := make([]byte, 400)
		for i := range seed {
			seed[i] = byte(rng.Uint32())
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) { check(t, &source{data}) })
}

// TestTwin is the fuzz test on fixed random bytes, for runs without a fuzzer.
func TestTwin(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		data := make([]byte, 200+rng.IntN(400))
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		check(t, &source{data})
	}
}

// TestTwinManyRoutes compares a table that is large enough for the index by upper bits.
func TestTwinManyRoutes(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	slow := &slowTable{ports: []PortInfo{{MTU: 1500, Up: true}}}
	for i := range 8 {
		slow.neighbours = append(slow.neighbours, Neighbour{Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), MAC: [6]byte{4, byte(i)}})
	}
	draw := func() netip.Addr { return packet.AddrFrom4(rng.Uint32()).Netip() }
	for range 5000 {
		prefix := netip.PrefixFrom(draw(), 1+rng.IntN(32))
		slow.routes = append(slow.routes, Route{Prefix: prefix, Via: slow.neighbours[rng.IntN(8)].Addr})
	}
	fast := Build(slow.ports, slow.routes, slow.neighbours)
	for _, r := range slow.routes[:500] {
		first := packet.AddrFrom(r.Prefix.Masked().Addr())
		end := last(first, r.Prefix.Bits()+96)
		for _, dst := range []packet.Addr{first, packet.AddrFrom4(first.V4() - 1), end, packet.AddrFrom4(end.V4() + 1)} {
			compare(t, fast, slow, dst.Netip())
		}
	}
}
