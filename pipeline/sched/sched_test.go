package sched_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"sluice/pipeline/counter"
	"sluice/pipeline/sched"
	"sluice/pipeline/service"
)

var testKey = [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}

// candidates returns candidates with these weights; ids are the list positions, addresses 10.0.0.0
// and up.
func candidates(weights ...uint32) []sched.Candidate {
	c := make([]sched.Candidate, len(weights))
	for i, w := range weights {
		addr := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		c[i] = sched.Candidate{ID: uint32(i), Weight: w, LastWeight: w, Up: true, Key: netip.AddrPortFrom(addr, 80)}
	}
	return c
}

// equal makes n candidates of weight 1.
func equal(n int) []sched.Candidate {
	weights := make([]uint32, n)
	for i := range weights {
		weights[i] = 1
	}
	return candidates(weights...)
}

func mustNew(t testing.TB, name string, c []sched.Candidate) sched.Scheduler {
	t.Helper()
	s, err := sched.New(name, c, testKey)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// v4 is the key of an IPv4 client of 198.51.100.10.
func v4(client uint32) *sched.Key {
	return &sched.Key{
		Client: [2]uint64{0, 0xffff_0000_0000 | uint64(client)},
		VIP:    [2]uint64{0, 0xffff_0000_0000 | 198<<24 | 51<<16 | 100<<8 | 10},
		IPv4:   true,
	}
}

// names writes picks as letters, a for the first candidate, "-" for none.
func names(picks []int) string {
	var b strings.Builder
	for _, i := range picks {
		if i < 0 {
			b.WriteByte('-')
		} else {
			b.WriteByte(byte('a' + i))
		}
	}
	return b.String()
}

func picks(s sched.Scheduler, st *sched.State, n int) string {
	list := make([]int, n)
	for i := range list {
		list[i] = s.Pick(st, nil, nil)
	}
	return names(list)
}

// loadsOf counts the given connections, {active, inactive} by backend id, split over two workers.
func loadsOf(counts ...[2]int32) *counter.Loads {
	l := counter.NewLoads(2, len(counts))
	for id, c := range counts {
		l.Add(0, uint32(id), c[0]/2, c[1])
		l.Add(1, uint32(id), c[0]-c[0]/2, 0)
	}
	return l
}

func TestEverySchedulerOfTheServiceExists(t *testing.T) {
	for _, name := range service.Schedulers {
		if _, err := sched.New(name, candidates(1, 2, 3), testKey); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNewErrors(t *testing.T) {
	twice := candidates(1, 1)
	twice[1].Key = twice[0].Key
	last := candidates(0)
	last[0].LastWeight = 70000
	for _, c := range []struct {
		name string
		list []sched.Candidate
		want []string
	}{
		{"wrrr", candidates(1), []string{`"wrrr"`, "wlc", "p2c"}},
		{"wlc", candidates(65536), []string{"wlc", "10.0.0.0:80", "65536", "65535"}},
		{"mh", last, []string{"70000"}},
		{"mh", twice, []string{"mh", "10.0.0.0:80", "twice"}},
	} {
		_, err := sched.New(c.name, c.list, testKey)
		if err == nil {
			t.Errorf("%s: no error, want one naming %q", c.name, c.want)
			continue
		}
		for _, part := range c.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: error %q does not say %q", c.name, err, part)
			}
		}
	}
}

// TestUnusableGetsNothing: no scheduler chooses an unusable candidate, and without a usable one
// there is no choice.
func TestUnusableGetsNothing(t *testing.T) {
	mixed := candidates(3, 0, 5, 65535, 1, 0)
	mixed[3].Up = false
	mixed[1].LastWeight = 40
	down := candidates(1, 2, 3)
	drained := candidates(0, 0)
	never := candidates(0, 0)
	for i := range down {
		down[i].Up = false
	}
	for i := range drained {
		drained[i].LastWeight = 7
	}
	for _, name := range service.Schedulers {
		s, loads, st := mustNew(t, name, mixed), counter.NewLoads(1, len(mixed)), sched.State{}
		hits := map[int]int{}
		for n := range uint32(3000) {
			k := v4(n * 7919)
			k.VIP = k.Client
			i := s.Pick(&st, loads, k)
			hits[i]++
			if i >= 0 {
				loads.Add(0, mixed[i].ID, 1, 0)
			}
		}
		for _, i := range []int{1, 3, 5} {
			if hits[i] > 0 {
				t.Errorf("%s: unusable candidate %d picked %d times", name, i, hits[i])
			}
		}
		if hits[-1] > 0 {
			t.Errorf("%s: none picked %d times though there are usable ones", name, hits[-1])
		}
		if hits[0] == 0 || hits[2] == 0 {
			t.Errorf("%s: usable candidates left out: %v", name, hits)
		}
		for _, list := range [][]sched.Candidate{nil, {}, down, drained, never} {
			if i := mustNew(t, name, list).Pick(&st, loads, v4(1)); i != -1 {
				t.Errorf("%s: picked %d of %+v, want none", name, i, list)
			}
		}
	}
}

func TestListOfOne(t *testing.T) {
	for _, name := range service.Schedulers {
		for _, weight := range []uint32{1, 2, sched.MaxWeight} {
			s, loads, st := mustNew(t, name, candidates(weight)), counter.NewLoads(1, 1), sched.State{}
			for n := range uint32(20) {
				if i := s.Pick(&st, loads, v4(n)); i != 0 {
					t.Errorf("%s, weight %d: pick %d is %d", name, weight, n, i)
				}
				loads.Add(0, 0, 1, 1)
			}
		}
	}
}

// TestForeignStateIsHarmless: with the State of another list or scheduler, no scheduler chooses
// outside the list.
func TestForeignStateIsHarmless(t *testing.T) {
	states := []sched.State{
		{Turn: 3<<32 | 4_000_000_000}, {Turn: 99<<32 | 3}, {Turn: ^uint64(0)}, {Turn: 1<<36 | 2}, {Turn: 1 << 32},
	}
	for _, st := range states {
		for _, from := range service.Schedulers {
			for _, to := range service.Schedulers {
				for _, list := range [][]sched.Candidate{nil, candidates(3), candidates(2, 4), candidates(1, 0, 5, 2)} {
					loads := counter.NewLoads(1, 8)
					mustNewCached(t, from, candidates(5, 1, 2, 1, 1, 3)).Pick(&st, loads, v4(5))
					if i := mustNewCached(t, to, list).Pick(&st, loads, v4(5)); i < -1 || i >= len(list) {
						t.Fatalf("%s after %s on %d candidates: %d", to, from, len(list), i)
					}
				}
			}
		}
	}
}

var cached = sched.NewBuilder(testKey)

// mustNewCached is mustNew for tests that make many schedulers of the same few lists.
func mustNewCached(t testing.TB, name string, c []sched.Candidate) sched.Scheduler {
	t.Helper()
	s, err := cached.New(name, c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPickAllocatesNothing(t *testing.T) {
	for _, name := range service.Schedulers {
		c := candidates(1, 2, 3, 0, 5)
		c[1].Up = false
		s, loads, st, k := mustNew(t, name, c), counter.NewLoads(2, len(c)), new(sched.State), v4(1)
		if n := testing.AllocsPerRun(200, func() { k.Client[1]++; s.Pick(st, loads, k) }); n != 0 {
			t.Errorf("%s: %v allocations per Pick", name, n)
		}
	}
}

func BenchmarkPick(b *testing.B) {
	for _, name := range service.Schedulers {
		for _, n := range []int{3, 100, 1000} {
			b.Run(fmt.Sprintf("%s/backends=%d", name, n), func(b *testing.B) {
				c := equal(n)
				for i := range c {
					c[i].Weight = uint32(i%5) + 1
					c[i].LastWeight = c[i].Weight
				}
				s, loads, st, k := mustNew(b, name, c), counter.NewLoads(1, n), new(sched.State), v4(1)
				for id := range uint32(n) {
					loads.Add(0, id, int32(id%7)+1, int32(id%3))
				}
				b.ReportAllocs()
				for b.Loop() {
					k.Client[1] += 0x9e37
					s.Pick(st, loads, k)
				}
			})
		}
	}
}
