package steer_test

import (
	"testing"
	"time"

	"github.com/google/gopacket"

	"sluice/engine/steer"
)

// step is one frame of a sequence, or the time in its name.
type step struct {
	name   string
	frame  []byte
	action uint32
}

// follow gives the frames of a sequence to a program that remembers nothing, and to its twin.
func follow(t *testing.T, steps []step) {
	t.Helper()
	port, program := testPortOf(t)
	memory, decider := steer.NewMemory(), steer.NewDecider(testRules())
	for _, s := range steps {
		if s.frame == nil {
			age, err := time.ParseDuration(s.name)
			if err == nil {
				err = program.Age(age)
			}
			if err != nil {
				t.Fatal(err)
			}
			memory.Advance(age)
			continue
		}
		if got := decider.DecideAt(loopbackIndex, s.frame, memory); actionOn(got) != s.action {
			t.Errorf("%s: DecideNext returns %+v (%s), want action %d", s.name, got, got, s.action)
		}
		if got := actionOf(t, port, s.frame); got != s.action {
			t.Errorf("%s: action %d, want %d", s.name, got, s.action)
		}
	}
}

// TestOpened: the packets of a connection that a nat backend has opened pass to the kernel, and
// those of services' connections do not, whatever was opened before.
func TestOpened(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			from := func(source, destination string, transport gopacket.SerializableLayer) []byte {
				return packet(t, ip(source, destination, pTCP), transport)
			}
			quote := build(t, ip(f.client, f.bAny, pTCP), tcp(443, 40000))[:28]
			if f.name == "v6" {
				quote = build(t, ip(f.client, f.bAny, pTCP), tcp(443, 40000))[:48]
			}
			fin, rst := tcp(40000, 443), tcp(40000, 443)
			fin.FIN, rst.RST = true, true
			follow(t, []step{
				{"a backend's segment", from(f.bAny, f.client, tcp(40000, 443)), drop},
				{"it opens", from(f.bAny, f.client, syn(40000, 443)), pass},
				{"its next segment", from(f.bAny, f.client, tcp(40000, 443)), pass},
				{"an error about the other direction", icmp(t, f.router, f.client, 3, quote), pass},
				{"what comes back", from(f.client, f.bAny, synAck(443, 40000)), pass},
				{"another port of the backend", from(f.bAny, f.client, tcp(40001, 443)), drop},
				{"another port of the client", from(f.bAny, f.client, tcp(40000, 444)), drop},
				{"a datagram with the same ends", packet(t, ip(f.bAny, f.client, pUDP), udp(40000, 443)), drop},
				{"to another backend", from(f.bAny, f.b, syn(40000, 8080)), pass},
				{"the other backend accepts", from(f.b, f.bAny, synAck(8080, 40000)), pass},
				{"and sends", from(f.b, f.bAny, tcp(8080, 40000)), pass},
				{"but not on another port", from(f.b, f.bAny, tcp(8080, 40001)), drop},
				{"between backends, no port of a service", from(f.b, f.bRange, syn(40000, 8000)), pass},
				{"the range accepts", from(f.bRange, f.b, synAck(8000, 40000)), pass},
				{"it ends", from(f.bAny, f.client, fin), pass},
				{"the last segment", from(f.bAny, f.client, tcp(40000, 443)), pass},
				{name: "50s"},
				{"within a minute of its end", from(f.bAny, f.client, tcp(40000, 443)), pass},
				{name: "61s"},
				{"after its end", from(f.bAny, f.client, tcp(40000, 443)), drop},
				{"opened again", from(f.bAny, f.client, syn(40000, 443)), pass},
				{"opened again: sends", from(f.bAny, f.client, tcp(40000, 443)), pass},
				{"accepts a client's with the same ends", from(f.bAny, f.client, synAck(40000, 443)), drop},
				{"replies to the client", from(f.bAny, f.client, tcp(40000, 443)), drop},
			})
		})
	}
}

// TestOpenedIdle: a connection that is not closed is remembered for hours without a packet.
func TestOpenedIdle(t *testing.T) {
	port, program := testPortOf(t)
	segment := packet(t, ip(bAny4, client4, pTCP), tcp(40000, 443))
	actionOf(t, port, packet(t, ip(bAny4, client4, pTCP), syn(40000, 443)))
	for _, c := range []struct {
		age  time.Duration
		want uint32
	}{{2 * time.Hour, pass}, {3 * time.Hour, drop}} {
		if err := program.Age(c.age); err != nil {
			t.Fatal(err)
		}
		if got := actionOf(t, port, segment); got != c.want {
			t.Errorf("after %s without a packet: action %d, want %d", c.age, got, c.want)
		}
	}
}

// TestOpenedAcrossSet: new rules for a backend do not make the program forget its connections.
func TestOpenedAcrossSet(t *testing.T) {
	port, program := testPortOf(t)
	segment := packet(t, ip(bAny4, client4, pTCP), tcp(40000, 443))
	actionOf(t, port, packet(t, ip(bAny4, client4, pTCP), syn(40000, 443)))
	rules := testRules()
	rules.Replies = append(rules.Replies, key(bAny4, 8000, 8010, 6))
	if err := program.Set(rules); err != nil {
		t.Fatal(err)
	}
	if got := actionOf(t, port, segment); got != pass {
		t.Errorf("action %d, want %d", got, pass)
	}
}

// TestFragments: later fragments go where the first one of their packet went. Those that come
// before it go to the kernel if this host has the destination, and else to Sluice if they may be
// its own.
func TestFragments(t *testing.T) {
	later := gopacket.Payload("12345678")
	first4 := func(id uint16, destination string, port uint16) []byte {
		header := fragment4(client4, destination, pUDP, 0, true)
		header.Id = id
		return packet(t, header, gopacket.Payload{4, 210, byte(port >> 8), byte(port), 0, 8, 0, 0})
	}
	later4 := func(id uint16, destination string) []byte {
		header := fragment4(client4, destination, pUDP, 5, false)
		header.Id = id
		return packet(t, header, later)
	}
	reply := fragment4(bAny4, client4, pUDP, 0, true)
	rest := fragment4(bAny4, client4, pUDP, 1, false)
	tcpRest := fragment4(client4, web4, pTCP, 5, false)
	early, toHost := fragment4(bAny4, client4, pUDP, 1, false), fragment4(bAny4, h4, pUDP, 1, false)
	own, ownRest := fragment4(b4, client4, pTCP, 0, true), fragment4(b4, client4, pTCP, 1, false)
	early.Id, toHost.Id, own.Id, ownRest.Id = 17, 18, 19, 19
	reply.Id, rest.Id, tcpRest.Id = 7, 7, 1
	first6 := func(port uint16) []byte {
		return packet(t, ip(client6, web6, pFragment), fragment6(pUDP, 0, true), gopacket.Payload{4, 210, byte(port >> 8), byte(port), 0, 8, 0, 0})
	}
	later6 := packet(t, ip(client6, web6, pFragment), fragment6(pOptions, 5, false), later)
	follow(t, []step{
		{"later", later4(1, web4), pass},
		{"first", first4(1, web4, 53), drop},
		{"later, after its first", later4(1, web4), drop},
		{"again", later4(1, web4), drop},
		{"later, before its first, of a packet that the kernel owns", later4(2, web4), pass},
		{"later of another protocol", packet(t, tcpRest, later), pass},
		{"first of it", first4(2, web4, 54), pass},
		{"later of it, after its first", later4(2, web4), pass},
		{"the kernel's, with an old identification", first4(1, web4, 54), pass},
		{"later of that", later4(1, web4), pass},
		{"first of a reply", packet(t, reply, udp(53, 1234)), drop},
		{"rest of the reply", packet(t, rest, later), drop},
		{"rest of a reply, before its first", packet(t, early, later), drop},
		{"to this host, before its first", packet(t, toHost, later), pass},
		{"first of a backend's own", packet(t, own, udp(53, 1234)), pass},
		{"rest of it", packet(t, ownRest, later), pass},
		{"to a VIP, whatever the port", first4(9, vip4, 99), drop},
		{"later to a VIP", later4(8, vip4), drop},
		{"IPv6, later", later6, pass},
		{"IPv6, first", first6(53), drop},
		{"IPv6, later, after its first", later6, drop},
		{"IPv6, the kernel's", first6(54), pass},
		{"IPv6, later of the kernel's", later6, pass},
		{"first, again", first4(3, web4, 53), drop},
		{"IPv6, first, again", first6(53), drop},
		{name: "29s"},
		{"later, in time", later4(3, web4), drop},
		{"IPv6, later, in time", later6, drop},
		{name: "2s"},
		{"later, of another packet after so long", later4(3, web4), pass},
		{"IPv6, later, of another packet after so long", later6, pass},
		{"first of that", first4(3, web4, 53), drop},
		{"later of that", later4(3, web4), drop},
		{"IPv6, first of another one of its packets", first6(54), pass},
	})
}
