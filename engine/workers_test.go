package engine_test

import (
	"context"
	"fmt"
	"maps"
	"testing"

	"sluice/engine/api"
	"sluice/engine/enginetest"
	"sluice/pipeline/nexthop"
	"sluice/pipeline/packet/packettest"
)

// layouts are machines on which a flow's two directions meet different workers.
var layouts = []struct {
	name    string
	workers int
	queues  []int
}{
	{"two workers", 2, []int{2, 2}},
	{"three workers", 3, []int{3, 3}},
	{"one queue for three workers", 3, []int{1, 1}},
	{"workers between queues", 3, []int{2, 4}},
	{"one arm", 2, []int{2}},
}

// TestFlowsAcrossWorkers: whichever queue a packet comes by, its flow's owner handles it, both
// ways.
func TestFlowsAcrossWorkers(t *testing.T) {
	t.Parallel()
	const flows = 600
	for i, layout := range layouts {
		t.Run(layout.name, func(t *testing.T) {
			if i%2 == 0 {
				slow(t)
			}
			lab := enginetest.New(t, layout.queues...)
			lab.Start(layout.workers, config(nat3()))
			backends := len(layout.queues) - 1
			for n := range flows {
				lab.Arrive(enginetest.Clients, opening(n).Frame())
			}
			lab.Quiet()
			behind := make(map[string]string) // client -> backend
			for _, s := range lab.Collect() {
				m := parse(t, s.Frame)
				behind[at(m.Src.String(), int(m.SrcPort))] = at(m.Dst.String(), int(m.DstPort))
				if s.Port != backends {
					t.Errorf("sent by port %d", s.Port)
				}
			}
			if len(behind) != flows {
				t.Fatalf("%d flows came out, %d went in", len(behind), flows)
			}
			for n := range flows {
				answer := packettest.TCP(behind[client(n)], client(n)).Flags(syn|ack).Seq(7, uint32(n))
				lab.Arrive(backends, answer.Frame())
			}
			lab.Quiet()
			answered := make(map[string]bool)
			for _, s := range lab.Collect() {
				m := parse(t, s.Frame)
				if from := at(m.Src.String(), int(m.SrcPort)); from != vip4+":80" || s.Port != enginetest.Clients {
					t.Errorf("answer from %s by port %d", from, s.Port)
				}
				answered[at(m.Dst.String(), int(m.DstPort))] = true
			}
			if len(answered) != flows {
				t.Errorf("%d flows were answered, %d went in", len(answered), flows)
			}
			checkSharing(t, lab.Stats(), flows)
		})
	}
}

// checkSharing: all workers took part, and what they handed over arrived.
func checkSharing(t *testing.T, s api.Stats, flows uint64) {
	t.Helper()
	var out, in, connections uint64
	for _, w := range s.Workers {
		out, in, connections = out+w.HandOversOut, in+w.HandOversIn, connections+w.Connections
		if w.Connections == 0 {
			t.Errorf("worker %d has no connections", w.Worker)
		}
	}
	if out != in || out == 0 {
		t.Errorf("%d frames were handed out, %d taken in", out, in)
	}
	if connections != flows || s.Tables.ConnectionsV4 != flows || s.Dropped() != 0 {
		t.Errorf("%d connections of %d; drops %v", connections, flows, s.Drops)
	}
}

// TestDirectionsWithoutReplies: a tun or dr flow stays where it arrives if the card of the clients'
// port is known to deliver all of its packets to one of the workers. Else it belongs to a worker
// that any other finds.
func TestDirectionsWithoutReplies(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name            string
		workers, queues int
		rss, uplinks    bool // the hash of the cards is known; the default route has two ports
		shared          bool
	}{
		{"a queue each", 2, 2, true, false, false},
		{"two queues each", 2, 4, true, false, false},
		{"unknown hash", 2, 2, false, false, true},
		{"two uplinks", 2, 2, true, true, true},
		{"one queue", 3, 1, true, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			lab := enginetest.New(t, test.queues, test.queues)
			if test.rss {
				lab.RSS = card(test.queues)
			}
			if test.uplinks {
				lab.Change(func(s *enginetest.Surroundings) {
					for i := range s.Routes {
						if r := &s.Routes[i]; r.Prefix.Bits() == 0 {
							r.Also = []nexthop.Leg{{Port: enginetest.Backends}}
						}
					}
				})
			}
			lab.Start(test.workers, config(svc{mode: "dr", backends: []string{"10.0.0.11:80", "10.0.0.12:80"}}))
			for n := range 300 {
				lab.Arrive(enginetest.Clients, opening(n).Frame())
			}
			lab.Quiet()
			first := lab.Collect()
			// Something about the surroundings changes, and with it the tables.
			lab.Change(func(s *enginetest.Surroundings) { s.Forget("10.0.0.19") })
			for n := range 300 {
				lab.Arrive(enginetest.Clients, opening(n).Flags(ack).Frame())
			}
			lab.Quiet()
			second := lab.Collect()
			if len(first) != 300 || len(second) != 300 {
				t.Fatalf("of 300 flows, %d began and %d went on", len(first), len(second))
			}
			checkSameBackends(t, first, second)
			s := lab.Stats()
			dropped(t, s, "none", 0)
			handed := false
			for _, w := range s.Workers {
				handed = handed || w.HandOversOut > 0
				if test.shared && w.Connections == 0 {
					t.Errorf("worker %d has no connections", w.Worker)
				}
			}
			if handed != test.shared {
				t.Errorf("frames were handed over: %v, want %v", handed, test.shared)
			}
		})
	}
}

// checkSameBackends: by their MAC addresses, the flows of both lots went to the same hosts.
func checkSameBackends(t *testing.T, first, second []enginetest.Sent) {
	t.Helper()
	hosts := make(map[string]string)
	for i, s := range append(first, second...) {
		m := parse(t, s.Frame)
		from, host := at(m.Src.String(), int(m.SrcPort)), fmt.Sprintf("%x", s.Frame[:6])
		if was, ok := hosts[from]; ok && was != host {
			t.Errorf("%s went to %s before, now to %s", from, was, host)
		} else if !ok && i >= len(first) {
			t.Errorf("%s was not there before", from)
		}
		hosts[from] = host
	}
}

// TestICMPFindsReceiversFlow: an ICMP error may arrive at another worker than the flow that it is
// about, which stays where it is received. It finds its way to the owner, and ends if there is
// none.
func TestICMPFindsReceiversFlow(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 3, 3)
	lab.RSS = card(3)
	lab.Start(3, config(svc{mode: "dr", backends: []string{"10.0.0.11:80"}}))
	lab.Send(enginetest.Clients, 1, opening(1).Frame())
	for queue := range 3 {
		in := packettest.ICMP("203.0.113.99", vip4, 3, 4, 1400, packettest.TCP(vip4+":80", client(1)).IP())
		out := one(t, lab.Send(enginetest.Clients, queue, in.Frame()))
		expect(t, out, enginetest.Backends, toBackend(in.TTL(63), 11))
	}
	unknown := packettest.ICMP("203.0.113.99", vip4, 3, 4, 1400, packettest.TCP(vip4+":80", client(2)).IP())
	if sent := lab.Send(enginetest.Clients, 0, unknown.Frame()); len(sent) != 0 {
		t.Errorf("sent %+v", sent)
	}
	dropped(t, lab.Stats(), "icmp_no_flow", 1)
}

// TestPersistentFlowsMeet: with persistence, all of a client's connections are one worker's.
func TestPersistentFlowsMeet(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 3, 3)
	sticky := nat3()
	sticky.extra = `persistence = "5m"`
	lab.Start(3, config(sticky))
	behind := make(map[string]string)
	for port := range 20 {
		for host := range 20 {
			from := fmt.Sprintf("192.0.2.%d:%d", host+1, 2000+port)
			lab.Arrive(enginetest.Clients, packettest.TCP(from, vip4+":80").Flags(syn).Frame())
		}
	}
	lab.Quiet()
	sent := lab.Collect()
	if len(sent) != 400 {
		t.Fatalf("sent %d of 400", len(sent))
	}
	for _, s := range sent {
		m := parse(t, s.Frame)
		if was, ok := behind[m.Src.String()]; ok && was != m.Dst.String() {
			t.Errorf("%s went to %s before, now to %s", m.Src, was, m.Dst)
		}
		behind[m.Src.String()] = m.Dst.String()
		answer := packettest.TCP(at(m.Dst.String(), int(m.DstPort)), at(m.Src.String(), int(m.SrcPort))).Flags(syn | ack)
		lab.Arrive(enginetest.Backends, answer.Frame())
	}
	lab.Quiet()
	if sent = lab.Collect(); len(sent) != 400 {
		t.Errorf("%d of 400 were answered", len(sent))
	}
	conns, err := lab.Engine.Conns(context.Background(), api.ConnQuery{})
	if err != nil {
		t.Fatal(err)
	}
	owner := make(map[string]int)
	for _, c := range conns {
		host := packettest.Addr(c.Client).String()
		if was, ok := owner[host]; ok && was != c.Worker {
			t.Errorf("connections of %s are with workers %d and %d", host, was, c.Worker)
		}
		owner[host] = c.Worker
	}
	if len(conns) != 400 {
		t.Errorf("%d connections are listed", len(conns))
	}
}

// TestFullNATAcrossWorkers: replies to a local port go to the worker that took the port.
func TestFullNATAcrossWorkers(t *testing.T) {
	t.Parallel()
	const flows = 300
	for _, workers := range []int{1, 2, 3} {
		t.Run(fmt.Sprint(workers), func(t *testing.T) {
			lab := enginetest.New(t, 2, 2)
			lab.Start(workers, config(svc{mode: "fullnat", extra: `source = ["10.0.0.2"]`, backends: []string{"10.0.0.11:8080"}}))
			for n := range flows {
				lab.Arrive(enginetest.Clients, opening(n).Frame())
			}
			lab.Quiet()
			locals := make(map[uint16]bool)
			for _, s := range lab.Collect() {
				m := parse(t, s.Frame)
				if m.Src.String() != "10.0.0.2" || m.Dst.String() != backend4 || locals[m.SrcPort] || m.SrcPort < 1024 {
					t.Fatalf("from %s:%d to %s", m.Src, m.SrcPort, m.Dst)
				}
				locals[m.SrcPort] = true
				answer := packettest.TCP(backend4+":8080", at("10.0.0.2", int(m.SrcPort))).Flags(syn | ack)
				lab.Arrive(enginetest.Backends, answer.Frame())
			}
			lab.Quiet()
			answered := make(map[string]bool)
			for _, s := range lab.Collect() {
				m := parse(t, s.Frame)
				if m.Src.String() != vip4 || m.SrcPort != 80 {
					t.Errorf("answer from %s:%d", m.Src, m.SrcPort)
				}
				answered[at(m.Dst.String(), int(m.DstPort))] = true
			}
			if len(locals) != flows || len(answered) != flows {
				t.Errorf("of %d flows, %d came out and %d were answered", flows, len(locals), len(answered))
			}
		})
	}
}

// TestTurnsOverWorkers: connections that are opened one after the other by any queue take turns as
// with one worker.
func TestTurnsOverWorkers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		sched    string
		backends []string
		want     map[string]int // of 14 connections
	}{
		{"rr", []string{"10.0.0.11", "10.0.0.12"}, map[string]int{"10.0.0.11": 7, "10.0.0.12": 7}},
		{"wrr", []string{"10.0.0.11 4", "10.0.0.12 2", "10.0.0.13 1"}, map[string]int{"10.0.0.11": 8, "10.0.0.12": 4, "10.0.0.13": 2}},
		{"wlc", []string{"10.0.0.11 4", "10.0.0.12 2", "10.0.0.13 1"}, map[string]int{"10.0.0.11": 8, "10.0.0.12": 4, "10.0.0.13": 2}},
	} {
		for _, mode := range []string{"nat", "fullnat"} {
			if testing.Short() && mode == "nat" {
				continue
			}
			s := svc{mode: mode, sched: test.sched, backends: test.backends}
			if mode == "fullnat" {
				s.extra = `source = ["10.0.0.2"]`
			}
			lab := enginetest.New(t, 4, 4)
			lab.Start(3, config(s))
			got := make(map[string]int)
			for n := range 14 {
				got[backendOf(t, one(t, lab.Send(enginetest.Clients, n%4, opening(n).Frame())).Frame)]++
			}
			if !maps.Equal(got, test.want) {
				t.Errorf("%s %s: %v, want %v", test.sched, mode, got, test.want)
			}
			lab.Close()
		}
	}
}
