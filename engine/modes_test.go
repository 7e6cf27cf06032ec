package engine_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"sluice/engine/enginetest"
	"sluice/pipeline/packet/packettest"
)

// The ends of the flows in the tests of modes.
const (
	client4, client6   = "192.0.2.7:40000", "[2001:db8:9::7]:40000"
	backend4, backend6 = "10.0.0.11", "2001:db8:a::11"
)

func at(addr string, port int) string {
	if packettest.Addr(addr).Is6() {
		return fmt.Sprintf("[%s]:%d", addr, port)
	}
	return fmt.Sprintf("%s:%d", addr, port)
}

// build makes the packet of a protocol: for TCP, one that opens a connection.
func build(proto, src, dst string) packettest.Packet {
	if proto == "udp" {
		return packettest.UDP(src, dst)
	}
	return packettest.TCP(src, dst).Flags(syn)
}

// TestNAT: there with the backend's address, back with the service's.
func TestNAT(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ proto, client, vip, backend string }{
		{"tcp", client4, vip4, backend4}, {"udp", client4, vip4, backend4},
		{"tcp", client6, vip6, backend6}, {"udp", client6, vip6, backend6},
	} {
		t.Run(test.proto+" "+test.vip, func(t *testing.T) {
			lab := enginetest.New(t, 1, 1)
			real := at(test.backend, 8080)
			lab.Start(1, config(svc{vip: test.vip, proto: test.proto, backends: []string{real}}))
			in := build(test.proto, test.client, at(test.vip, 80)).TOS(0xb8)
			out := one(t, lab.Send(enginetest.Clients, 0, in.Frame()))
			expect(t, out, enginetest.Backends, toBackend(in.To(real).TTL(63), 11))

			in = build(test.proto, real, test.client).Flags(syn | ack).Payload([]byte("answer"))
			out = one(t, lab.Send(enginetest.Backends, 0, in.Frame()))
			expect(t, out, enginetest.Clients, toClient(in.From(at(test.vip, 80)).TTL(63)))
		})
	}
}

// TestDR: nothing changes but TTL and Ethernet header.
func TestDR(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ proto, client, vip, backend string }{
		{"tcp", client4, vip4, backend4}, {"udp", client4, vip4, backend4},
		{"tcp", client6, vip6, backend6}, {"udp", client6, vip6, backend6},
	} {
		t.Run(test.proto+" "+test.vip, func(t *testing.T) {
			lab := enginetest.New(t, 1, 1)
			lab.Start(1, config(svc{vip: test.vip, proto: test.proto, mode: "dr", backends: []string{at(test.backend, 80)}}))
			in := build(test.proto, test.client, at(test.vip, 80)).WrongBy(0x1111)
			out := one(t, lab.Send(enginetest.Clients, 0, in.Frame()))
			expect(t, out, enginetest.Backends, toBackend(in.TTL(63), 11))
		})
	}
}

// TestTUN: the packet travels whole in an outer one, in all four combinations of families.
func TestTUN(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, proto, client, vip, backend string }{
		{"4in4", "tcp", client4, vip4, backend4}, {"4in4 udp", "udp", client4, vip4, backend4},
		{"6in6", "tcp", client6, vip6, backend6}, {"6in6 udp", "udp", client6, vip6, backend6},
		{"4in6", "tcp", client4, vip4, backend6}, {"6in4", "udp", client6, vip6, backend4},
	} {
		t.Run(test.name, func(t *testing.T) {
			lab := enginetest.New(t, 1, 1)
			lab.Start(1, config(svc{vip: test.vip, proto: test.proto, mode: "tun", backends: []string{at(test.backend, 80)}}))
			in := build(test.proto, test.client, at(test.vip, 80)).TOS(0xb8).DF().ID(99)
			out := one(t, lab.Send(enginetest.Clients, 0, in.Frame()))
			inner, number := in.TTL(63).IP(), uint8(4)
			if packettest.Addr(test.vip).Is6() {
				number = 41
			}
			src := enginetest.Tunnel4
			if packettest.Addr(test.backend).Is6() {
				src = enginetest.Tunnel6
			}
			want := packettest.Raw(number, src, test.backend, inner).TTL(63).TOS(0xb8)
			if src == enginetest.Tunnel4 { // the identification is ours to choose
				want = want.DF().ID(binary.BigEndian.Uint16(out.Frame[18:]))
			}
			expect(t, out, enginetest.Backends, toBackend(want, 11))
		})
	}
}

// TestModesBesideEachOther: a backend's mode wins over its service's.
func TestModesBesideEachOther(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(svc{mode: "nat", backends: []string{"10.0.0.11:80"}})+`
[[service.backend]]
address = "10.0.0.12"
mode = "dr"
[[service.backend]]
address = "10.0.0.13"
mode = "tun"
`)
	// The backend that was added last comes first.
	first, second, third := opening(1), opening(2), opening(3)
	sent := lab.Send(enginetest.Clients, 0, first.Frame(), second.Frame(), third.Frame())
	if len(sent) != 3 {
		t.Fatalf("sent %d frames, want 3", len(sent))
	}
	want := packettest.Raw(4, enginetest.Tunnel4, "10.0.0.13", first.TTL(63).IP()).TTL(63)
	expect(t, sent[0], enginetest.Backends, toBackend(want.ID(binary.BigEndian.Uint16(sent[0].Frame[18:])), 13))
	expect(t, sent[1], enginetest.Backends, toBackend(second.TTL(63), 12))
	expect(t, sent[2], enginetest.Backends, toBackend(third.To("10.0.0.11:80").TTL(63), 11))
}

// TestOneArm: everything by one port.
func TestOneArm(t *testing.T) {
	lab := enginetest.New(t, 1)
	lab.Start(1, config(nat3()))
	in := opening(1)
	out := one(t, lab.Send(0, 0, in.Frame()))
	expect(t, out, 0, in.To("10.0.0.13:8080").TTL(63).MACs(enginetest.PortMAC(0), enginetest.HostMAC(13)))
	in = packettest.TCP("10.0.0.13:8080", client(1)).Flags(syn | ack)
	out = one(t, lab.Send(0, 0, in.Frame()))
	expect(t, out, 0, toClient(in.From(vip4+":80").TTL(63)))
}

// TestVLANs: the tag of the port that a frame came by does not follow it to another.
func TestVLANs(t *testing.T) {
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(nat3()))
	lab.Change(func(s *enginetest.Surroundings) {
		for i := range s.Routes {
			if s.Routes[i].Port == enginetest.Backends {
				s.Routes[i].VLAN = 300
			}
		}
		for i := range s.Neighbours {
			if s.Neighbours[i].Port == enginetest.Backends {
				s.Neighbours[i].VLAN = 300
			}
		}
	})
	in := opening(1)
	out := one(t, lab.Send(enginetest.Clients, 0, in.VLAN(7).Frame()))
	expect(t, out, enginetest.Backends, toBackend(in.To("10.0.0.13:8080").TTL(63).VLAN(300), 13))
	in = packettest.TCP("10.0.0.13:8080", client(1)).Flags(syn | ack)
	out = one(t, lab.Send(enginetest.Backends, 0, in.VLAN(300).Frame()))
	expect(t, out, enginetest.Clients, toClient(in.From(vip4+":80").TTL(63)))
}
