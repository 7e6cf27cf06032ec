package engine_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sluice/engine/enginetest"
	"sluice/engine/route"
	"sluice/pipeline/nexthop"
	"sluice/pipeline/packet/packettest"
)

// TestNeighbourMissing: packets to a backend without a MAC address are dropped and the neighbour
// asked for; when it answers, they flow.
func TestNeighbourMissing(t *testing.T) {
	slow(t)
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(svc{backends: []string{"10.0.0.11:8080"}}))
	var lost nexthop.Neighbour
	lab.Change(func(s *enginetest.Surroundings) { lost = s.Forget("10.0.0.11") })
	if sent := lab.Send(enginetest.Clients, 0, opening(1).Frame()); len(sent) != 0 {
		t.Errorf("sent %+v", sent)
	}
	dropped(t, lab.Stats(), "no_neighbour", 1)
	lab.Await("the neighbour to be asked for", func() bool { return lab.Requested("10.0.0.11") })
	lab.Change(func(s *enginetest.Surroundings) { s.Neighbours = append(s.Neighbours, lost) })
	out := one(t, lab.Send(enginetest.Clients, 0, opening(1).Frame()))
	expect(t, out, enginetest.Backends, toBackend(opening(1).To("10.0.0.11:8080").TTL(63), 11))
}

// TestRouterMissing checks that a reply without a MAC address of its next hop returns to where its
// client's first packet came from, while the next hop is resolved.
func TestRouterMissing(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(svc{backends: []string{"10.0.0.11:8080"}}))
	lab.Send(enginetest.Clients, 0, opening(1).MACs([6]byte{2, 0, 0, 0, 0xff, 1}, [6]byte{2, 0, 0, 0, 0xee, 0}).Frame())
	answer := packettest.TCP("10.0.0.11:8080", client(1)).Flags(syn | ack)
	var lost nexthop.Neighbour
	lab.Change(func(s *enginetest.Surroundings) { lost = s.Forget(enginetest.Router4) })
	back := toClient(answer.From(vip4 + ":80").TTL(63))
	expect(t, one(t, lab.Send(enginetest.Backends, 0, answer.Frame())), enginetest.Clients, back)
	lab.Await("the router to be asked for", func() bool { return lab.Requested(packettest.Addr(client(1)).String()) })
	lab.Change(func(s *enginetest.Surroundings) { s.Neighbours = append(s.Neighbours, lost) })
	out := one(t, lab.Send(enginetest.Backends, 0, answer.Frame()))
	expect(t, out, enginetest.Clients, back)
}

// TestMACChanges: after a change no frame goes to the old address (F17).
func TestMACChanges(t *testing.T) {
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(svc{backends: []string{"10.0.0.11:8080"}}))
	lab.Send(enginetest.Clients, 0, opening(1).Frame())
	lab.Change(func(s *enginetest.Surroundings) {
		n := s.Forget("10.0.0.11")
		n.MAC = enginetest.HostMAC(19)
		s.Neighbours = append(s.Neighbours, n)
	})
	in := opening(1).Flags(ack)
	out := one(t, lab.Send(enginetest.Clients, 0, in.Frame()))
	expect(t, out, enginetest.Backends, toBackend(in.To("10.0.0.11:8080").TTL(63), 19))
}

// TestPortDownAndNoRoute: each way of having no way has its reason, and ends.
func TestPortDownAndNoRoute(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		reason string
		change func(s *enginetest.Surroundings, broken bool)
	}{
		{"port_down", func(s *enginetest.Surroundings, broken bool) { s.Ports[enginetest.Backends].Up = !broken }},
		{"no_route", func(s *enginetest.Surroundings, broken bool) {
			for i := range s.Routes {
				s.Routes[i].Kind = nexthop.Unicast
				if broken {
					s.Routes[i].Kind = nexthop.Blackhole
				}
			}
		}},
	} {
		for _, mode := range []string{"nat", "fullnat", "tun", "dr"} {
			t.Run(test.reason+" "+mode, func(t *testing.T) {
				s := svc{mode: mode, backends: []string{"10.0.0.11:80"}}
				if mode == "fullnat" {
					s.extra = `source = ["10.0.0.2"]`
				}
				lab := enginetest.New(t, 1, 1)
				lab.Start(1, config(s))
				one(t, lab.Send(enginetest.Clients, 0, opening(1).Frame()))
				lab.Change(func(s *enginetest.Surroundings) { test.change(s, true) })
				if sent := lab.Send(enginetest.Clients, 0, opening(1).Flags(ack).Frame()); len(sent) != 0 {
					t.Errorf("sent %+v", sent)
				}
				dropped(t, lab.Stats(), test.reason, 1)
				lab.Change(func(s *enginetest.Surroundings) { test.change(s, false) })
				one(t, lab.Send(enginetest.Clients, 0, opening(1).Flags(ack).Frame()))
			})
		}
	}
}

// TestSourceFollowsAddress: the outer source of a tunnel is the address that the port has now.
func TestSourceFollowsAddress(t *testing.T) {
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(svc{mode: "tun", backends: []string{"10.0.0.11:80"}}))
	outer := func() string {
		t.Helper()
		out := one(t, lab.Send(enginetest.Clients, 0, opening(1).Frame()))
		return ipv4(out.Frame[26:30])
	}
	if got := outer(); got != enginetest.Tunnel4 {
		t.Errorf("outer source %s", got)
	}
	lab.Change(func(s *enginetest.Surroundings) {
		for i, p := range s.Ports[enginetest.Backends].Prefixes {
			if p.Addr().Is4() {
				s.Ports[enginetest.Backends].Prefixes[i] = prefix("10.0.0.9/24")
			}
		}
	})
	if got := outer(); got != "10.0.0.9" {
		t.Errorf("outer source %s after the address changed", got)
	}
}

// TestInterfaceIsReplaced: an interface goes with all frames that it had and comes back with
// another index; flows go on, and no frame is lost sight of (F09).
func TestInterfaceIsReplaced(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 2, 2)
	lab.Start(2, config(nat3()))
	for n := range 200 {
		lab.Arrive(enginetest.Clients, opening(n).Frame())
	}
	lab.Quiet()
	if sent := lab.Collect(); len(sent) != 200 {
		t.Fatalf("sent %d of 200", len(sent))
	}
	for round := range 5 {
		lab.Stall(enginetest.Backends, true)
		for n := range 100 { // frames on the TX rings
			lab.Arrive(enginetest.Clients, opening(n).Flags(ack).Frame())
		}
		lab.Change(func(s *enginetest.Surroundings) {
			p := &s.Ports[enginetest.Backends]
			p.Exists, p.Up = false, false
		})
		lab.Await("the port to be closed", func() bool { lab.Stats(); return lab.Closed(enginetest.Backends) })
		lab.Quiet()
		lab.Change(func(s *enginetest.Surroundings) {
			p := &s.Ports[enginetest.Backends]
			p.Exists, p.Up, p.Ifindex = true, true, 100+round
		})
		lab.Await("the port to be used", func() bool { return lab.Used(enginetest.Backends) })
		lab.Collect()
		for n := range 200 {
			lab.Arrive(enginetest.Clients, opening(n).Flags(ack).Frame())
		}
		lab.Quiet()
		if sent := lab.Collect(); len(sent) != 200 {
			t.Fatalf("round %d: %d of 200 flows went on", round, len(sent))
		}
	}
	s := lab.Stats()
	if s.Ports[enginetest.Backends].Name != "backends" || !s.Ports[enginetest.Backends].Up {
		t.Errorf("%+v", s.Ports)
	}
	if _, err := lab.Engine.List(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestUnreachable checks that a backend without a neighbour is down, without a check: it takes no
// new connections, keeps those it has, and is up again at once.
func TestUnreachable(t *testing.T) {
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(nat3()))
	before := openAll(t, lab, 0, 30)
	lost := netip.MustParseAddr("10.0.0.12")
	why := route.Unreachable{Reason: "no neighbour", Detail: "10.0.0.12 on backends does not answer ARP", Since: time.Now()}
	lab.Change(func(s *enginetest.Surroundings) { s.Unreachable = map[netip.Addr]route.Unreachable{lost: why} })
	s := list(t, lab)[0]
	if got := statesOf(s); got != "up down up" {
		t.Fatalf("states %s", got)
	}
	if b := s.Backends[1]; !strings.HasPrefix(b.Reason, "no neighbour since 20") || !strings.HasSuffix(b.Reason, why.Detail) {
		t.Errorf("%+v", b)
	}
	if got := alarms(t, lab); got != "backend_unreachable web" {
		t.Errorf("alarms: %s", got)
	}
	if n := spread(openAll(t, lab, 100, 130)); n["10.0.0.12:8080"] != 0 || len(n) != 2 {
		t.Errorf("new connections went to %v", n)
	}
	sameAs(t, before, goOn(t, lab, 0, 30), "")
	lab.Change(func(s *enginetest.Surroundings) { s.Unreachable = nil })
	if got := statesOf(list(t, lab)[0]) + alarms(t, lab); got != "up up up" {
		t.Errorf("with its neighbour: %s", got)
	}
	sameAs(t, before, goOn(t, lab, 0, 30), "")
}
