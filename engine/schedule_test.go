package engine_test

import (
	"slices"
	"strings"
	"testing"

	"sluice/engine/enginetest"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// order opens connections one after the other and gives the last bytes of the backends chosen: "13
// 12 11".
func order(t *testing.T, lab *enginetest.Lab, from, n int) string {
	t.Helper()
	var all []string
	for i := range n {
		out := one(t, lab.Send(enginetest.Clients, 0, opening(from+i).Frame()))
		all = append(all, strings.TrimPrefix(backendOf(t, out.Frame), "10.0.0."))
	}
	return strings.Join(all, " ")
}

// TestRoundRobinIsExact: 60 connections of one worker go 20, 20, 20, whatever comes in between.
func TestRoundRobinIsExact(t *testing.T) {
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(nat3()))
	if got := order(t, lab, 0, 6); got != "13 12 11 13 12 11" {
		t.Errorf("order %s", got)
	}
	// new tables, same backends
	lab.Change(func(s *enginetest.Surroundings) { s.Forget("10.0.0.19") })
	n := spread(openAll(t, lab, 100, 160))
	if n["10.0.0.11:8080"] != 20 || n["10.0.0.12:8080"] != 20 || n["10.0.0.13:8080"] != 20 {
		t.Errorf("%v", n)
	}
}

// TestWeightedRoundRobin: IPVS's bursts, with the backend that was added last at the head.
func TestWeightedRoundRobin(t *testing.T) {
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(svc{sched: "wrr", backends: []string{"10.0.0.11:80", "10.0.0.12:80 2", "10.0.0.13:80 4"}}))
	if got := order(t, lab, 0, 14); got != "13 13 13 12 13 12 11 13 13 13 12 13 12 11" {
		t.Errorf("order %s", got)
	}
}

// TestWeightedLeastConnection: sequence of wlc, with connections that open, end and expire in
// between.
func TestWeightedLeastConnection(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(svc{sched: "wlc", backends: []string{"10.0.0.11:80 3", "10.0.0.12:80 1"}}))
	type load struct{ active, inactive, weight int }
	loads := map[string]*load{"12": {weight: 1}, "11": {weight: 3}} // in list order: 12, 11
	choose := func() string {
		a, b := loads["12"], loads["11"]
		if (a.active*256+a.inactive)*b.weight > (b.active*256+b.inactive)*a.weight {
			return "11"
		}
		return "12"
	}
	behind := make(map[int]string)
	for n := range 40 {
		want := choose()
		if got := order(t, lab, n, 1); got != want {
			t.Fatalf("connection %d went to %s, want %s: %+v %+v", n, got, want, *loads["12"], *loads["11"])
		}
		loads[want].active++
		behind[n] = want
		if n%3 == 2 { // an older one is closed by both ends, and so inactive
			old := n / 2
			if b := behind[old]; b != "" {
				backend := packettest.TCP("10.0.0."+b+":80", client(old))
				lab.Send(enginetest.Backends, 0, backend.Flags(syn|ack).Frame())
				lab.Send(enginetest.Clients, 0, opening(old).Flags(ack).Frame(), opening(old).Flags(fin|ack).Frame())
				lab.Send(enginetest.Backends, 0, backend.Flags(fin|ack).Frame())
				loads[b].active--
				loads[b].inactive++
				behind[old] = ""
			}
		}
	}
	for _, b := range list(t, lab)[0].Backends {
		l := loads[b.Address[len(b.Address)-2:]]
		if int(b.Active) != l.active || int(b.Inactive) != l.inactive {
			t.Errorf("%s has %d active and %d inactive, want %+v", b.Address, b.Active, b.Inactive, *l)
		}
	}
}

// TestHashedConnections: mh chooses by client and knows no order of backends in the file.
func TestHashedConnections(t *testing.T) {
	t.Parallel()
	backends := []string{"10.0.0.11:80", "10.0.0.12:80", "10.0.0.13:80", "10.0.0.14:80"}
	var first map[string]string
	for _, workers := range []int{1, 3} {
		lab := enginetest.New(t, 2, 2)
		lab.Start(workers, config(svc{sched: "mh", backends: backends}))
		got := openAll(t, lab, 0, 200)
		if first == nil {
			first = got
		}
		sameAs(t, first, got, "")
		if n := spread(got); len(n) != 4 {
			t.Errorf("%v", n)
		}
		slices.Reverse(backends)
	}
}

// TestPersistence: a client's connections stay together, at weight 0 too, but not when the backend
// is gone.
func TestPersistence(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 1, 1)
	sticky := nat3()
	sticky.extra = `persistence = "5m"`
	lab.Start(1, config(sticky))
	from := func(host string, port int) string {
		t.Helper()
		out := one(t, lab.Send(enginetest.Clients, 0, packettest.TCP(at(host, port), vip4+":80").Flags(syn).Frame()))
		return backendOf(t, out.Frame)
	}
	if a, b := from("192.0.2.1", 1), from("192.0.2.2", 1); a != "10.0.0.13" || b != "10.0.0.12" {
		t.Errorf("%s, %s", a, b)
	}
	for port := 2; port < 10; port++ {
		if a, b := from("192.0.2.1", port), from("192.0.2.2", port); a != "10.0.0.13" || b != "10.0.0.12" {
			t.Errorf("port %d: %s, %s", port, a, b)
		}
	}
	if _, err := lab.Engine.SetWeight(t.Context(), "web", "10.0.0.13:8080", 0); err != nil {
		t.Fatal(err)
	}
	if a, b := from("192.0.2.1", 20), from("192.0.2.9", 20); a != "10.0.0.13" || b == "10.0.0.13" {
		t.Errorf("with 13 drained: %s, and a new client %s", a, b)
	}
	sticky.backends = sticky.backends[:2]
	if _, err := lab.Reload(config(sticky)); err != nil {
		t.Fatal(err)
	}
	moved := from("192.0.2.1", 21)
	if again := from("192.0.2.1", 22); moved == "10.0.0.13" || again != moved {
		t.Errorf("with 13 gone: %s, then %s", moved, again)
	}
}

// TestWeightsThatDoNothing: who sets one is told so, exactly where backends get as many connections
// as before.
func TestWeightsThatDoNothing(t *testing.T) {
	slow(t)
	const heavy = "10.0.0.12:8080"
	setWeight := func(lab *enginetest.Lab, weight int) string {
		t.Helper()
		b, err := lab.Engine.SetWeight(bg, "web", heavy, weight)
		if err != nil || b.Weight != weight {
			t.Fatalf("%v, %+v", err, b)
		}
		return b.Note
	}
	for _, scheduler := range service.Schedulers {
		share := func(weight int) (connections int, note string) {
			lab := enginetest.New(t, 1, 1)
			s := nat3()
			s.sched = scheduler
			lab.Start(1, config(s))
			if weight != 1 {
				note = setWeight(lab, weight)
			}
			return spread(openAll(t, lab, 0, 300))[heavy], note
		}
		before, _ := share(1)
		after, note := share(50)
		if (note == "") == (before == after) {
			t.Errorf("%s: %d connections of 300, with weight 50 %d; the note is %q", scheduler, before, after, note)
		}
		if note != "" && !strings.Contains(note, "the scheduler of web, "+scheduler+", treats all weights above 0 alike: "+heavy) {
			t.Error(note)
		}
	}

	lab := enginetest.New(t, 1, 1)
	s := nat3()
	s.backends = []string{"10.0.0.11:8080 2", "10.0.0.12:8080 2"}
	lab.Start(1, config(s))
	for i, step := range []struct {
		weight int
		note   bool
	}{{0, false}, {2, false}, {1, true}, {0, false}, {1, true}, {2, true}, {2, false}} {
		if note := setWeight(lab, step.weight); (note != "") != step.note {
			t.Errorf("step %d, weight %d: the note is %q", i+1, step.weight, note)
		}
	}
}
