package pipeline_test

import (
	"fmt"
	"testing"

	"sluice/pipeline"
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// opens sends a SYN of the n-th client to a worker, and says what became of it.
func (w *world) opens(worker, n int) string {
	w.t.Helper()
	return w.raw(worker, front, packettest.TCP(fmt.Sprintf("192.0.%d.%d:%d", 2+n/200, 1+n%200, 2000+n), web4).Flags(syn).Frame()).String()
}

// TestServiceConnections checks that a service gets as many connections as it may have, over all
// workers, that ended ones make room, and that those of the sorry server do not count.
func TestServiceConnections(t *testing.T) {
	for _, workers := range []int{1, 2, 4} {
		for _, sorry := range []bool{false, true} {
			s := svc{own: pipeline.ByReceiver, mode: service.DR, limits: pipeline.Limits{Connections: 50}, backends: []backend{{host: 11, port: 80}, {host: 12, port: 80}}}
			if sorry {
				s.backends = append(s.backends, backend{host: 13, port: 80, sorry: true})
			}
			w := newWorlds(t, workers, capacity, s)
			beyond := map[bool]string{false: "limited", true: "forward"}[sorry]
			for n := range 100 {
				want := "forward"
				if n >= 50 {
					want = beyond
				}
				if got := w.opens(n%workers, n); got != want {
					t.Fatalf("%d workers: connection %d: %s, want %s", workers, n, got, want)
				}
			}
			load := w.loads.Of(1).Active + w.loads.Of(2).Active
			if load != 50 || sorry && w.loads.Of(3).Active != 50 {
				t.Errorf("%d connections, and %d at the sorry server", load, w.loads.Of(3).Active)
			}
			limited := uint64(0)
			for _, p := range w.procs {
				limited += p.Services[1].Limited[counter.LimitConnections]
			}
			if limited != 50 {
				t.Errorf("%d counted as limited", limited)
			}
			w.pass(conn.DefaultTimeoutsMs[conn.SynRecv] + 10_000)
			if got := w.opens(0, 200); got != "forward" {
				t.Errorf("after the others have ended: %s", got)
			}
			w.sum()
		}
	}
}

// TestNewPerSecond checks the rate of new connections of a service.
func TestNewPerSecond(t *testing.T) {
	s := nat()
	s.limits.NewPerSecond = 20
	w := newWorld(t, s)
	for second := range 3 {
		opened := 0
		for n := range 60 {
			if w.opens(0, 100*second+n) == "forward" {
				opened++
			}
			w.now += 16
		}
		w.now += 40
		if opened < 19 || opened > 21 {
			t.Errorf("second %d: %d opened", second, opened)
		}
	}
}

// TestMaxConnections checks the limit of a backend, with IPVS's thresholds, for each scheduler.
func TestMaxConnections(t *testing.T) {
	for _, name := range service.Schedulers {
		for _, least := range []uint32{0, 4} {
			// A big backend that most schedulers prefer, and a small one.
			s := svc{sched: name, mode: service.DR, backends: []backend{{host: 11, port: 80, weight: 10, most: 8, least: least}, {host: 12, port: 80, most: 2}}}
			w := newWorld(t, s)
			for n := range 20 {
				want := "forward"
				if n >= 10 {
					want = "limited"
				}
				if got := w.opens(0, n); got != want {
					t.Fatalf("%s: connection %d: %s, want %s", name, n, got, want)
				}
			}
			if a, b := w.loads.Of(1).Active, w.loads.Of(2).Active; a != 8 || b != 2 {
				t.Errorf("%s: %d and %d connections, want 8 and 2", name, a, b)
			}
			if n := w.procs[0].Services[1].Limited[counter.LimitBackends]; n != 10 {
				t.Errorf("%s: %d counted as limited", name, n)
			}
			w.sum()
		}
	}
}

// TestMinConnections checks that a backend which was full gets connections again below its lower
// threshold only, which is three quarters if it has none.
func TestMinConnections(t *testing.T) {
	for least, below := range map[uint32]uint32{0: 6, 3: 3} {
		w := newWorld(t, svc{mode: service.DR, backends: []backend{{host: 11, port: 80, most: 8, least: least}}})
		for n := range 8 {
			w.opens(0, n)
			w.now += 1000
		}
		last := uint32(8)
		for n := 100; w.opens(0, n) == "limited" && n < 400; n++ {
			last = w.loads.Of(1).Active
			w.pass(500)
		}
		if now := w.loads.Of(1).Active; last < below || now > below {
			t.Errorf("lower threshold %d: full with %d connections, %d after a new one; want %d", least, last, now, below)
		}
	}
}

// TestSourceLimits checks the limits of each source, by address and by prefix, over all workers: a
// source at its limit is refused, others are not, and connections that end make room.
func TestSourceLimits(t *testing.T) {
	limits := pipeline.Limits{SourceConnections: 3, SourceBits4: 32, SourceBits6: 128}
	wide := pipeline.Limits{SourceConnections: 3, SourceBits4: 24, SourceBits6: 64}
	rate := pipeline.Limits{SourceNewPerSecond: 3, SourceBits4: 32, SourceBits6: 128}
	for _, c := range []struct {
		name    string
		limits  pipeline.Limits
		vip     string
		clients []string // in turn
		opened  int      // of 12
	}{
		{"one address", limits, vip4, []string{"192.0.2.1"}, 3},
		{"two addresses", limits, vip4, []string{"192.0.2.1", "192.0.2.2"}, 6},
		{"one network", wide, vip4, []string{"192.0.2.1", "192.0.2.2", "192.0.2.200"}, 3},
		{"two networks", wide, vip4, []string{"192.0.2.1", "192.0.3.1"}, 6},
		{"IPv6", limits, vip6, []string{"2001:db8:9::1", "2001:db8:9::2"}, 6},
		{"IPv6 network", wide, vip6, []string{"2001:db8:9::1", "2001:db8:9::2"}, 3},
		{"rate", rate, vip4, []string{"192.0.2.1", "192.0.2.2"}, 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorlds(t, 2, capacity, svc{vip: c.vip, own: pipeline.ByReceiver, mode: service.DR, limits: c.limits, backends: []backend{{host: 11, port: 80}}})
			round := func(from int) (opened int) {
				for n := range 12 {
					client := port(c.clients[n%len(c.clients)], fmt.Sprint(from+n))
					if w.raw(n/len(c.clients)%2, front, packettest.TCP(client, port(c.vip, "80")).Flags(syn).Frame()).String() == "forward" {
						opened++
					}
				}
				return opened
			}
			if n := round(1000); n != c.opened {
				t.Errorf("%d opened, want %d", n, c.opened)
			}
			w.pass(conn.DefaultTimeoutsMs[conn.SynRecv] + 10_000)
			if n := round(2000); n != c.opened {
				t.Errorf("%d opened when the others have ended, want %d", n, c.opened)
			}
			w.sum()
		})
	}
}

// TestSourceCounts checks that each connection is counted for its source once, however it opened,
// and no packet that opened none is: one connection more than the limit is refused, and when all
// have ended, as many as the limit are accepted again.
func TestSourceCounts(t *testing.T) {
	const most = 5
	adopting, full := hashing(vip4, service.DR), svc{silent: true, idleMs: 10_000, backends: []backend{{host: 11, port: 80}}}
	for _, s := range []*svc{&adopting, &full} {
		s.idleMs, s.silent = 10_000, true
		s.limits = pipeline.Limits{SourceConnections: most, SourceBits4: 32, SourceBits6: 128}
	}
	from := func(n int) string { return fmt.Sprintf("192.0.2.7:%d", 5000+n) }
	for name, test := range map[string]struct {
		s   svc
		has func(w *world) // makes it have as many connections of the source as it may have
	}{
		"adopted": {adopting, func(w *world) {
			for n := range most {
				w.ends(w.in(packettest.TCP(from(n), web4)), "forward")
			}
		}},
		"restored": {full, func(w *world) {
			former := newWorld(t, w.svcs...)
			for n := range most {
				former.in(packettest.TCP(from(n), web4).Flags(syn))
				former.out(packettest.TCP("10.0.0.11:80", from(n)).Flags(syn | ack))
				former.in(packettest.TCP(from(n), web4))
			}
			for _, c := range former.entries(0, 4) {
				if !w.procs[0].Restore(w.tables, &conn.Entry{Conn: c, Client: addr("192.0.2.7"), BackendAddr: addr("10.0.0.11")}, w.now) {
					t.Error("not restored")
				}
			}
		}},
		"after a full table": {full, func(w *world) {
			for n := range 64 {
				w.in(packettest.TCP(fmt.Sprintf("192.0.3.%d:1000", n+1), web4).Flags(syn))
			}
			w.procs[0].ProveAll()
			for n := range 2 * most {
				w.ends(w.in(packettest.TCP(from(100+n), web4).Flags(syn)), "table_full")
			}
			w.pass(70_000 + sweepMs)
			for n := range most {
				w.ends(w.in(packettest.TCP(from(n), web4).Flags(syn)), "forward")
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorlds(t, 1, 64, test.s)
			test.has(w)
			w.ends(w.in(packettest.TCP(from(20), web4).Flags(syn)), "limited")
			w.pass(70_000 + sweepMs)
			for n := range most {
				w.ends(w.in(packettest.TCP(from(30+n), web4).Flags(syn)), "forward")
			}
			w.ends(w.in(packettest.TCP(from(20), web4).Flags(syn)), "limited")
			w.sum()
		})
	}
}

// TestPersistenceBeforeMaxConnections checks that a client with a template goes to the backend of
// the template although that has all the connections that it may have, as in IPVS, and that others
// do not.
func TestPersistenceBeforeMaxConnections(t *testing.T) {
	w := newWorld(t, svc{persistMs: 60_000, own: pipeline.ByAddress, backends: []backend{{host: 11, port: 80, most: 2}, {host: 12, port: 80, drain: true}}})
	for n := range 5 {
		w.ends(w.in(packettest.TCP(fmt.Sprintf("192.0.2.7:%d", 5000+n), web4).Flags(syn)), "forward")
	}
	w.ends(w.in(packettest.TCP("192.0.2.8:5000", web4).Flags(syn)), "limited")
	w.sum()
}
