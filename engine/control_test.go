package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sluice/engine/api"
	"sluice/engine/enginetest"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

func list(t *testing.T, lab *enginetest.Lab) []api.Service {
	t.Helper()
	services, err := lab.Engine.List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return services
}

func conns(t *testing.T, lab *enginetest.Lab, q api.ConnQuery) []api.Conn {
	t.Helper()
	all, err := lab.Engine.Conns(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestList: services and backends in order, with what they carried to the byte.
func TestList(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(
		svc{backends: []string{"10.0.0.11:8080 3", "10.0.0.12:8080 0"}, sched: "wrr", extra: `persistence = "90s"`},
		svc{name: "dns", vip: vip6, port: "any", proto: "udp", mode: "dr", backends: []string{"2001:db8:a::11"}},
	))
	in, answer := opening(1), packettest.TCP("10.0.0.11:8080", client(1)).Flags(syn|ack)
	lab.Send(enginetest.Clients, 0, in.Frame(), in.Flags(ack).Frame())
	lab.Send(enginetest.Backends, 0, answer.Frame())
	lab.Send(enginetest.Clients, 0, packettest.UDP(client6, at(vip6, 53)).Frame())
	want := []api.Service{
		{Name: "web", Address: vip4, Port: api.SinglePort(80), Protocol: "tcp", Mode: "nat", Scheduler: "wrr", PersistenceS: 90,
			Connections: 1, Packets: 2, Bytes: 80, PacketsOut: 1, BytesOut: 45, Unproven: 1,
			Backends: []api.Backend{
				{Address: "10.0.0.11", Port: api.SinglePort(8080), Weight: 3, ConfiguredWeight: 3, Mode: "nat", State: "up",
					Active: 1, Connections: 1, Packets: 2, Bytes: 80, PacketsOut: 1, BytesOut: 45},
				{Address: "10.0.0.12", Port: api.SinglePort(8080), Mode: "nat", State: "drain"},
			}},
		{Name: "dns", Address: vip6, Port: api.Port(service.AnyPort), Protocol: "udp", Mode: "dr", Scheduler: "rr",
			Connections: 1, Packets: 1, Bytes: 53, Unproven: 1,
			Backends: []api.Backend{
				{Address: "2001:db8:a::11", Weight: 1, ConfiguredWeight: 1, Mode: "dr", State: "up", Inactive: 1, Connections: 1, Packets: 1, Bytes: 53},
			}},
	}
	if diff := cmp.Diff(want, list(t, lab), cmpopts.IgnoreFields(api.Backend{}, "StateSinceS", "Reason")); diff != "" {
		t.Error(diff)
	}
}

// TestConns: connections in words, and the queries that select them.
func TestConns(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 2, 2)
	lab.Start(2, config(nat3(),
		svc{name: "dns", vip: vip6, port: "any", proto: "udp", mode: "dr", backends: []string{"2001:db8:a::11"}},
		svc{name: "full", port: "82", mode: "fullnat", extra: `source = ["10.0.0.2"]` + "\n" + `persistence = "1m"`, backends: []string{"10.0.0.14:80"}},
	))
	at12 := spread(openAll(t, lab, 0, 30))["10.0.0.12:8080"]
	lab.Send(enginetest.Clients, 0, packettest.UDP(client6, at(vip6, 53)).Frame())
	lab.Send(enginetest.Clients, 0, packettest.TCP(client4, vip4+":82").Flags(syn).Frame())
	all := conns(t, lab, api.ConnQuery{})
	if len(all) != 32 {
		t.Fatalf("%d connections, want 32: %+v", len(all), all)
	}
	ignore := cmpopts.IgnoreFields(api.Conn{}, "ExpiresS", "Worker")
	for _, want := range []api.Conn{
		{Service: "dns", Protocol: "udp", Client: client6, Virtual: at(vip6, 53), Backend: "[2001:db8:a::11]:53", State: "UDP", Mode: "dr"},
		{Service: "full", Protocol: "tcp", Client: client4, Virtual: vip4 + ":82", Backend: "10.0.0.14:80", State: "SYN_RECV", Mode: "fullnat"},
	} {
		got := conns(t, lab, api.ConnQuery{Service: want.Service})
		if diff := cmp.Diff([]api.Conn{want}, got, ignore); diff != "" {
			t.Error(diff)
		}
		if left := got[0].ExpiresS; want.Service == "dns" && (left < 250 || left > 300) || want.Service == "full" && (left < 10 || left > 60) {
			t.Errorf("%s: %v s left", want.Service, left)
		}
	}
	for _, test := range []struct {
		q    api.ConnQuery
		want int
	}{
		{api.ConnQuery{Service: "web"}, 30},
		{api.ConnQuery{Service: "nothing"}, 0},
		{api.ConnQuery{Client: client(3)}, 1},
		{api.ConnQuery{Client: strings.Split(client(3), ":")[0]}, 1},
		{api.ConnQuery{Client: "192.0.2.4:1"}, 0},
		{api.ConnQuery{Client: "2001:db8:9::7"}, 1},
		{api.ConnQuery{Backend: "10.0.0.12"}, at12},
		{api.ConnQuery{Backend: "10.0.0.12:8080", Service: "web"}, at12},
		{api.ConnQuery{State: "SYN_RECV"}, 31},
		{api.ConnQuery{State: "ESTABLISHED"}, 0},
		{api.ConnQuery{Limit: 7}, 7},
		{api.ConnQuery{Limit: 100}, 32},
	} {
		if got := conns(t, lab, test.q); len(got) != test.want {
			t.Errorf("%+v selects %d, want %d", test.q, len(got), test.want)
		}
	}
	for _, q := range []api.ConnQuery{{Client: "unknown"}, {Backend: "10.0.0.12:http"}} {
		if _, err := lab.Engine.Conns(context.Background(), q); err == nil {
			t.Errorf("%+v: no error", q)
		}
	}
}

// TestStats: packets, workers, queues and frames add up.
func TestStats(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 2, 1)
	lab.Start(2, config(nat3()))
	openAll(t, lab, 0, 50)
	// This one is answered with RST.
	lab.Send(enginetest.Clients, 1, packettest.TCP(client(999), vip4+":80").Frame())
	s := lab.Stats()
	if s.Version != "test" || s.Rx != 51 || s.Forwarded != 50 || s.Replied != 1 || s.Dropped() != 0 {
		t.Errorf("%+v", s)
	}
	var worker, queue, free uint64
	for i, w := range s.Workers {
		if w.Worker != i || w.Loops == 0 {
			t.Errorf("worker %d: %+v", i, w)
		}
		worker, free = worker+w.Rx, free+w.FramesFree
	}
	for i, p := range s.Ports {
		if p.Name != []string{"clients", "backends"}[i] || !p.Up || p.MTU != 1500 || p.IO != "copy" {
			t.Errorf("port %+v", p)
		}
		for j, q := range p.Queues {
			if q.Queue != j || q.Worker != j {
				t.Errorf("queue %+v", q)
			}
			queue += q.Rx
		}
	}
	f := s.Frames
	if worker != 51 || queue != 51 || f.Free != free || f.Total != f.Free+f.Fill {
		t.Errorf("workers received %d, queues %d; %+v", worker, queue, f)
	}
	if s.Tables.ConnectionsV4 != 50 || s.Tables.ConnectionsV6 != 0 || s.Tables.Capacity != 16384 {
		t.Errorf("%+v", s.Tables)
	}
	if out := s.Ports[enginetest.Backends].Queues[0].Tx; out != 50 {
		t.Errorf("the one queue towards the backends sent %d", out)
	}
	if len(s.Drops) != len(api.DropReasons()) {
		t.Errorf("%d reasons, want %d", len(s.Drops), len(api.DropReasons()))
	}
}

// TestDrain: with weight 0 connections go on, new ones go elsewhere; a reload keeps it so, until
// the file says something else.
func TestDrain(t *testing.T) {
	t.Parallel()
	const drained = "10.0.0.12:8080"
	ctx := context.Background()
	lab := enginetest.New(t, 2, 2)
	lab.Start(2, config(nat3()))
	before := openAll(t, lab, 0, 90)
	b, err := lab.Engine.SetWeight(ctx, "web", drained, 0)
	if err != nil || b.State != api.StateDrain || b.Weight != 0 || b.ConfiguredWeight != 1 || b.Active != uint32(spread(before)[drained]) {
		t.Errorf("%+v, %v", b, err)
	}
	check := func(first int, takes bool) {
		t.Helper()
		sameAs(t, before, goOn(t, lab, 0, 90), "")
		if n := spread(openAll(t, lab, first, first+30)); (n[drained] > 0) != takes {
			t.Errorf("new flows went to %v", n)
		}
	}
	check(1000, false)
	if result, err := lab.Reload(config(nat3())); err != nil || len(result.Changes) != 0 {
		t.Errorf("%+v, %v", result, err)
	}
	check(2000, false)
	if _, err := lab.Reload(config(svc{backends: []string{"10.0.0.11:8080", drained + " 2", "10.0.0.13:8080"}})); err != nil {
		t.Fatal(err)
	}
	check(3000, true)
	if _, err := lab.Engine.SetWeight(ctx, "web", drained, 0); err != nil {
		t.Fatal(err)
	}
	check(4000, false)
	if b, err := lab.Engine.SetWeight(ctx, "web", drained, 2); err != nil || b.State != api.StateUp {
		t.Errorf("%+v, %v", b, err)
	}
	check(5000, true)
	dropped(t, lab.Stats(), "none", 0)
}

// TestAllDrained checks that new connections are refused and existing ones continue.
func TestAllDrained(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(svc{backends: []string{"10.0.0.11:8080"}}))
	before := openAll(t, lab, 0, 5)
	if _, err := lab.Engine.SetWeight(context.Background(), "web", "10.0.0.11:8080", 0); err != nil {
		t.Fatal(err)
	}
	sameAs(t, before, goOn(t, lab, 0, 5), "")
	in := opening(10)
	out := one(t, lab.Send(enginetest.Clients, 0, in.Frame()))
	want := packettest.ICMP(vip4, "192.0.2.11", 3, 3, 0, in.IP()).TOS(0xc0).DF().MACs(packettest.OurMAC, packettest.NeighbourMAC)
	expect(t, out, enginetest.Clients, want)
}

// TestSetWeightRefuses: names that don't exist come back with those that do, impossible weights by
// name.
func TestSetWeightRefuses(t *testing.T) {
	ctx := context.Background()
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(nat3()))
	_, err := lab.Engine.SetWeight(ctx, "wep", "10.0.0.11:8080", 1)
	var service *api.NoSuchService
	if !errors.As(err, &service) || !slices.Equal(service.Legal, []string{"web"}) {
		t.Error(err)
	}
	_, err = lab.Engine.SetWeight(ctx, "web", "10.0.0.11:80", 1)
	var backend *api.NoSuchBackend
	if !errors.As(err, &backend) || len(backend.Legal) != 3 {
		t.Error(err)
	}
	for _, weight := range []int{-1, 65536} {
		if _, err := lab.Engine.SetWeight(ctx, "web", "10.0.0.11:8080", weight); err == nil {
			t.Errorf("weight %d was accepted", weight)
		}
	}
	for _, b := range list(t, lab)[0].Backends {
		if b.Weight != 1 {
			t.Errorf("%+v", b)
		}
	}
}

// TestAskedWhileBusy: a worker that has no pause between packets still answers.
func TestAskedWhileBusy(t *testing.T) {
	lab := enginetest.New(t, 1, 1)
	lab.Busy = true
	lab.Start(1, config(nat3()))
	frame := opening(1).Frame()
	lab.Send(enginetest.Clients, 0, frame)
	for i := range 50 {
		for range 256 {
			lab.Offer(enginetest.Clients, 0, frame)
		}
		if s := lab.Stats(); s.Rx != s.Forwarded {
			t.Errorf("%d: received %d, forwarded %d", i, s.Rx, s.Forwarded)
		}
		if len(conns(t, lab, api.ConnQuery{})) != 1 {
			t.Error("the connection is not listed")
		}
		lab.Collect()
	}
}

// TestAskedWhileStuck: a question ends with its context, even if a worker doesn't come round.
func TestAskedWhileStuck(t *testing.T) {
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(nat3()))
	thaw := lab.Freeze(enginetest.Clients, 0)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		_, err := lab.Engine.Stats(ctx)
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	thaw()
}

// TestSteering: what the engine asks to get is what it is configured for.
func TestSteering(t *testing.T) {
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, everyMode())
	rules := lab.Steered()
	replies := make(map[string]bool)
	for _, k := range rules.Replies {
		replies[k.String()] = true
	}
	for _, want := range []string{"tcp 10.0.0.11:8080", "tcp 10.0.0.14:80", "udp 10.0.0.11:any", "tcp [2001:db8:a::11]:80"} {
		if !replies[want] {
			t.Errorf("replies from %s are not steered: %v", want, rules.Replies)
		}
	}
	if len(rules.Services) != 8 || len(rules.Replies) != 8 || len(rules.Pools) == 0 || len(rules.Locals) != 6 || len(rules.Stations) != 2 {
		t.Errorf("%+v", rules)
	}
	if neighbours := fmt.Sprint(lab.Neighbours()); !strings.Contains(neighbours, "10.0.0.18") || !strings.Contains(neighbours, "2001:db8:a::13") {
		t.Errorf("neighbours %s", neighbours)
	}
}
