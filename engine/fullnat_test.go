package engine_test

import (
	"fmt"
	"testing"

	"sluice/engine/enginetest"
	"sluice/pipeline/flow"
	"sluice/pipeline/packet/packettest"
)

// card makes the settings of a card that hashes addresses and ports of TCP and has so many queues.
func card(queues int) *flow.RSS {
	r := &flow.RSS{Queues: make([]uint16, 128), TCP4: true, TCP6: true}
	for i := range 40 {
		r.Key = append(r.Key, byte(i*i*37+11*i+5))
	}
	for i := range r.Queues {
		r.Queues[i] = uint16(i % queues)
	}
	return r
}

// fullnatFamilies are a service and its ends in each family.
var fullnatFamilies = []struct {
	name, vip, source, backend string
	client                     func(n int) string
}{
	{"IPv4", vip4, "10.0.0.2", "10.0.0.11:8080", client},
	{"IPv6", vip6, "2001:db8:a::2", "[2001:db8:a::11]:8080", func(n int) string { return fmt.Sprintf("[2001:db8:c::%x]:%d", n, 2000+n) }},
}

// TestFullNATFollowsTheCard: if it is known which queue the card delivers to, replies come to the
// worker that sent from their port, and clients' packets stay where they arrive: with a queue for
// each worker nothing is handed over. Without, all flows work all the same.
func TestFullNATFollowsTheCard(t *testing.T) {
	slow(t)
	const flows = 500
	for _, family := range fullnatFamilies {
		for _, layout := range []struct {
			workers, queues int
			known, handed   bool
		}{
			{2, 2, true, false},
			{4, 4, true, false},
			{2, 4, true, false},
			{3, 2, true, true},
			{2, 2, false, true},
		} {
			t.Run(fmt.Sprintf("%s/%d workers, %d queues, known %v", family.name, layout.workers, layout.queues, layout.known), func(t *testing.T) {
				lab := enginetest.New(t, layout.queues, layout.queues)
				lab.RSS = card(layout.queues)
				if !layout.known {
					lab.RSS.TCP4, lab.RSS.TCP6 = false, false
				}
				lab.Start(layout.workers, config(svc{
					vip: family.vip, mode: "fullnat", extra: fmt.Sprintf("source = [%q]", family.source), backends: []string{family.backend},
				}))
				vip := at(family.vip, 80)
				for range 3 {
					for n := range flows {
						lab.Arrive(enginetest.Clients, packettest.TCP(family.client(n), vip).Flags(syn).Frame())
					}
					lab.Quiet()
					locals := make(map[uint16]bool)
					for _, s := range lab.Collect() {
						m := parse(t, s.Frame)
						locals[m.SrcPort] = true
						answer := packettest.TCP(family.backend, at(family.source, int(m.SrcPort))).Flags(syn | ack)
						lab.Arrive(enginetest.Backends, answer.Frame())
					}
					lab.Quiet()
					if answered := len(lab.Collect()); len(locals) != flows || answered != flows {
						t.Fatalf("of %d flows, %d came out and %d were answered", flows, len(locals), answered)
					}
				}
				s, handed := lab.Stats(), uint64(0)
				for _, w := range s.Workers {
					handed += w.HandOversOut
					if w.Connections == 0 {
						t.Errorf("worker %d has no connections", w.Worker)
					}
				}
				if handed > 0 != layout.handed {
					t.Errorf("%d frames were handed over", handed)
				}
			})
		}
	}
}

// TestFullNATSettlesLate: towards a backend that can't be reached at first nothing is sent, and no
// port is taken; when it can be, its ports follow the card that leads there.
func TestFullNATSettlesLate(t *testing.T) {
	slow(t)
	lab := enginetest.New(t, 2, 2)
	lab.RSS = card(2)
	lab.Change(func(s *enginetest.Surroundings) { s.Ports[enginetest.Backends].Up = false })
	lab.Start(2, config(svc{mode: "fullnat", extra: `source = ["10.0.0.2"]`, backends: []string{"10.0.0.11:8080"}}))
	for n := range 20 {
		lab.Arrive(enginetest.Clients, opening(n).Frame())
	}
	lab.Quiet()
	if s := lab.Stats(); s.Drops["port_down"] != 20 || s.Tables.ConnectionsV4 != 0 {
		t.Errorf("drops %v, %d connections", s.Drops, s.Tables.ConnectionsV4)
	}
	lab.Change(func(s *enginetest.Surroundings) { s.Ports[enginetest.Backends].Up = true })
	for n := range 200 {
		lab.Arrive(enginetest.Clients, opening(n).Frame())
	}
	lab.Quiet()
	for _, s := range lab.Collect() {
		m := parse(t, s.Frame)
		answer := packettest.TCP("10.0.0.11:8080", at("10.0.0.2", int(m.SrcPort))).Flags(syn | ack)
		lab.Arrive(enginetest.Backends, answer.Frame())
	}
	lab.Quiet()
	if answered := len(lab.Collect()); answered != 200 {
		t.Errorf("%d of 200 were answered", answered)
	}
	for _, w := range lab.Stats().Workers {
		if w.HandOversOut != 0 {
			t.Errorf("worker %d handed %d frames over", w.Worker, w.HandOversOut)
		}
	}
}

// TestFullNATSettledOnce: ports stay shared out as they were when the card's settings change with a
// new interface of the same name, and with the connections of before every flow goes on.
func TestFullNATSettledOnce(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 2, 2)
	lab.RSS = card(2)
	lab.Start(2, config(svc{mode: "fullnat", extra: `source = ["10.0.0.2"]`, backends: []string{"10.0.0.11:8080"}}))
	locals := make(map[string]bool)
	exchange := func(from, to int) {
		t.Helper()
		for n := from; n < to; n++ {
			lab.Arrive(enginetest.Clients, opening(n).Frame())
		}
		lab.Quiet()
		for _, s := range lab.Collect() {
			m := parse(t, s.Frame)
			local := at("10.0.0.2", int(m.SrcPort))
			if locals[local] {
				t.Errorf("%s is used twice", local)
			}
			locals[local] = true
		}
		for local := range locals {
			lab.Arrive(enginetest.Backends, packettest.TCP("10.0.0.11:8080", local).Flags(syn|ack).Frame())
		}
		lab.Quiet()
		if answered := len(lab.Collect()); answered != to {
			t.Errorf("%d of %d were answered", answered, to)
		}
	}
	exchange(0, 300)
	other := card(2)
	for i := range other.Queues {
		other.Queues[i] ^= 1
	}
	lab.Change(func(s *enginetest.Surroundings) { s.Ports[enginetest.Backends].Exists = false })
	lab.Await("the port to be closed", func() bool { return lab.Closed(enginetest.Backends) })
	lab.RSS = other
	lab.Change(func(s *enginetest.Surroundings) {
		s.Ports[enginetest.Backends].Exists, s.Ports[enginetest.Backends].Ifindex = true, 77
	})
	lab.Await("the port to be used", func() bool { return !lab.Closed(enginetest.Backends) && lab.Used(enginetest.Backends) })
	exchange(300, 600)
}
