package sched_test

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"sluice/pipeline/counter"
	"sluice/pipeline/sched"
)

func TestLeastConnectionChoices(t *testing.T) {
	down := candidates(1, 1, 1)
	down[0].Up = false
	for _, c := range []struct {
		what, name string
		list       []sched.Candidate
		loads      *counter.Loads
		want       int
	}{
		{"lc: tie goes to the first in the list", "lc", equal(3), loadsOf([2]int32{1, 0}, [2]int32{1, 0}, [2]int32{1, 0}), 0},
		{"lc: fewest active", "lc", equal(3), loadsOf([2]int32{3, 0}, [2]int32{2, 0}, [2]int32{4, 0}), 1},
		{"lc: weight does not count", "lc", candidates(100, 1), loadsOf([2]int32{2, 0}, [2]int32{1, 0}), 1},
		{"lc: 255 inactive are less than one active", "lc", equal(2), loadsOf([2]int32{1, 0}, [2]int32{0, 255}), 1},
		{"lc: 256 inactive equal one active, first wins", "lc", equal(2), loadsOf([2]int32{1, 0}, [2]int32{0, 256}), 0},
		{"lc: 257 inactive are more", "lc", equal(2), loadsOf([2]int32{0, 257}, [2]int32{1, 0}), 1},
		{"lc: weight 0 is skipped", "lc", candidates(0, 1), loadsOf([2]int32{0, 0}, [2]int32{9, 0}), 1},
		{"lc: down is skipped", "lc", down, loadsOf([2]int32{0, 0}, [2]int32{9, 0}, [2]int32{8, 0}), 2},
		{"wlc: tie of fractions goes to the first", "wlc", candidates(1, 2), loadsOf([2]int32{1, 0}, [2]int32{2, 0}), 0},
		{"wlc: less per weight", "wlc", candidates(1, 2), loadsOf([2]int32{2, 0}, [2]int32{3, 0}), 1},
		{"wlc: idle ties go to the first, not the heaviest", "wlc", candidates(1, 5), loadsOf([2]int32{0, 0}, [2]int32{0, 0}), 0},
		{"wlc: one inactive more decides", "wlc", candidates(3, 3), loadsOf([2]int32{4, 1}, [2]int32{4, 0}), 1},
		{"wlc: weight 0 is skipped", "wlc", candidates(0, 1), loadsOf([2]int32{0, 0}, [2]int32{9, 0}), 1},
		{"wlc: down is skipped", "wlc", down, loadsOf([2]int32{0, 0}, [2]int32{9, 0}, [2]int32{8, 0}), 2},
		{"sed: the new connection counts, so the heavy one wins when idle", "sed", candidates(1, 5), loadsOf([2]int32{0, 0}, [2]int32{0, 0}), 1},
		{"sed: inactive don't count", "sed", equal(2), loadsOf([2]int32{0, 999}, [2]int32{1, 0}), 0},
		{"sed: (1+1)/2 ties with (0+1)/1", "sed", candidates(2, 1), loadsOf([2]int32{1, 0}, [2]int32{0, 0}), 0},
		{"sed: (2+1)/2 loses to (0+1)/1", "sed", candidates(2, 1), loadsOf([2]int32{2, 0}, [2]int32{0, 0}), 1},
		{"sed: down is skipped", "sed", down, loadsOf([2]int32{0, 0}, [2]int32{9, 0}, [2]int32{8, 0}), 2},
		{"nq: first idle wins, whatever the weight", "nq", candidates(1, 5), loadsOf([2]int32{0, 0}, [2]int32{0, 0}), 0},
		{"nq: an idle one behind a faster one", "nq", candidates(100, 1), loadsOf([2]int32{1, 0}, [2]int32{0, 50}), 1},
		{"nq: none idle, as sed", "nq", candidates(2, 1), loadsOf([2]int32{2, 0}, [2]int32{1, 0}), 0},
		{"nq: idle but down", "nq", down, loadsOf([2]int32{0, 0}, [2]int32{9, 0}, [2]int32{8, 0}), 2},
		{"nq: idle but drained", "nq", candidates(0, 1), loadsOf([2]int32{0, 0}, [2]int32{9, 0}), 1},
	} {
		if got := mustNew(t, c.name, c.list).Pick(new(sched.State), c.loads, nil); got != c.want {
			t.Errorf("%s: %d, want %d", c.what, got, c.want)
		}
	}
}

// TestLoadsAreFoundByID: the loads of backends are found by their ids, wherever they are in the
// list.
func TestLoadsAreFoundByID(t *testing.T) {
	list := []sched.Candidate{{ID: 5, Weight: 1, Up: true}, {ID: 2, Weight: 1, Up: true}}
	loads := loadsOf([2]int32{}, [2]int32{}, [2]int32{1, 0}, [2]int32{}, [2]int32{}, [2]int32{7, 0})
	for _, name := range []string{"lc", "wlc", "sed", "nq"} {
		if got := mustNew(t, name, list).Pick(new(sched.State), loads, nil); got != 1 {
			t.Errorf("%s: %d, want 1", name, got)
		}
	}
}

// TestLeastDoesNotOverflow: the products of the highest loads and weights do not overflow: the
// choice is compared with that of big integers.
func TestLeastDoesNotOverflow(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	extreme := func() uint32 { return math.MaxUint32 - r.Uint32N(3) }
	for range 2000 {
		list := candidates(sched.MaxWeight-r.Uint32N(3), sched.MaxWeight-r.Uint32N(3), 1+r.Uint32N(2))
		loads := counter.NewLoads(1, len(list))
		for id := range uint32(3) {
			loads.Add(0, id, int32(extreme()), int32(extreme()))
		}
		for name, cost := range slowCosts {
			got := mustNew(t, name, list).Pick(new(sched.State), loads, nil)
			if want := slowLeast(list, loads, cost); got != want {
				t.Fatalf("%s: %d, want %d", name, got, want)
			}
		}
	}
}

// slowCosts are the costs of a load, times 1, exactly.
var slowCosts = map[string]func(counter.Load) *big.Int{
	"wlc": func(l counter.Load) *big.Int {
		return big.NewInt(int64(l.Active)*256 + int64(l.Inactive))
	},
	"sed": func(l counter.Load) *big.Int { return big.NewInt(int64(l.Active) + 1) },
}

// slowLeast finds the first candidate in the list than which no other has less cost per weight.
func slowLeast(list []sched.Candidate, loads *counter.Loads, cost func(counter.Load) *big.Int) int {
	best, least := -1, new(big.Rat)
	for i, c := range list {
		if !c.Up || c.Weight == 0 {
			continue
		}
		x := new(big.Rat).SetFrac(cost(loads.Of(c.ID)), big.NewInt(int64(c.Weight)))
		if best < 0 || x.Cmp(least) < 0 {
			best, least = i, x
		}
	}
	return best
}

func FuzzLeast(f *testing.F) {
	f.Add(uint64(1), uint8(5))
	f.Fuzz(func(t *testing.T, seed uint64, n uint8) {
		r := rand.New(rand.NewPCG(seed, 0))
		list := make([]sched.Candidate, n)
		loads := counter.NewLoads(2, len(list))
		for i := range list {
			list[i] = sched.Candidate{ID: uint32(i), Weight: r.Uint32N(6), Up: r.Uint32N(4) > 0}
			loads.Add(r.IntN(2), uint32(i), r.Int32N(8), r.Int32N(600))
		}
		for name, cost := range slowCosts {
			got := mustNew(t, name, list).Pick(new(sched.State), loads, nil)
			if want := slowLeast(list, loads, cost); got != want {
				t.Fatalf("%s on %+v: %d, want %d", name, list, got, want)
			}
		}
	})
}

// TestWLCFillsByWeight: connections that stay are spread by weight: 70 of them on weights 4, 2, 1
// end as 40, 20, 10.
func TestWLCFillsByWeight(t *testing.T) {
	for _, name := range []string{"wlc", "sed"} {
		list := candidates(4, 2, 1)
		s, loads := mustNew(t, name, list), counter.NewLoads(1, 3)
		for range 70 {
			loads.Add(0, uint32(s.Pick(new(sched.State), loads, nil)), 1, 0)
		}
		got := []uint32{loads.Of(0).Active, loads.Of(1).Active, loads.Of(2).Active}
		if want := []uint32{40, 20, 10}; !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

// shares counts n picks by candidate.
func shares(s sched.Scheduler, st *sched.State, loads *counter.Loads, size, n int) []int {
	count := make([]int, size)
	for i := range uint32(n) {
		count[s.Pick(st, loads, v4(i*2654435761))]++
	}
	return count
}

// near reports whether got is within the given fraction of want.
func near(got int, want, tolerance float64) bool {
	return math.Abs(float64(got)-want) <= tolerance*want
}

func TestRandomSharesFollowWeights(t *testing.T) {
	const n = 200_000
	weights := []uint32{1, 0, 2, 5, 8, 16}
	got := shares(mustNew(t, "random", candidates(weights...)), &sched.State{Rand: 42}, nil, len(weights), n)
	for i, w := range weights {
		if want := n * float64(w) / 32; !near(got[i], want, 0.05) {
			t.Errorf("weight %d: %d picks of %d, want about %.0f", w, got[i], n, want)
		}
	}
}

func TestRandomWithTheHighestWeights(t *testing.T) {
	got := shares(mustNew(t, "random", candidates(65535, 65535, 1)), &sched.State{Rand: 7}, nil, 3, 100_000)
	if !near(got[0], 50_000, 0.02) || !near(got[1], 50_000, 0.02) || got[2] > 20 {
		t.Errorf("weights 65535, 65535, 1: %v", got)
	}
}

// TestRandomSeedsDiffer: workers with different seeds choose differently.
func TestRandomSeedsDiffer(t *testing.T) {
	s := mustNew(t, "random", equal(16))
	if a, b := picks(s, &sched.State{Rand: 1}, 40), picks(s, &sched.State{Rand: 2}, 40); a == b {
		t.Errorf("two seeds draw %s", a)
	}
}

// TestP2C: without loads p2c uses the first of its two candidates, so that clients are spread by
// weight; with loads it avoids the busy one.
func TestP2C(t *testing.T) {
	const n = 100_000
	weights := []uint32{1, 2, 5}
	s := mustNew(t, "p2c", candidates(weights...))
	got := shares(s, &sched.State{Rand: 3}, counter.NewLoads(1, 3), 3, n)
	for i, w := range weights {
		if want := n * float64(w) / 8; !near(got[i], want, 0.05) {
			t.Errorf("idle, weight %d: %d picks of %d, want about %.0f", w, got[i], n, want)
		}
	}
	// The busy one of four is taken only when both draws hit it.
	busy := loadsOf([2]int32{50, 0}, [2]int32{1, 0}, [2]int32{1, 0}, [2]int32{1, 0})
	got = shares(mustNew(t, "p2c", equal(4)), &sched.State{Rand: 3}, busy, 4, n)
	for i, want := range []float64{n / 16., n * 5 / 16., n * 5 / 16., n * 5 / 16.} {
		if !near(got[i], want, 0.05) {
			t.Errorf("busy, candidate %d: %d picks of %d, want about %.0f", i, got[i], n, want)
		}
	}
}

// TestP2CComparesPerWeight: p2c compares load per weight, as wlc does.
func TestP2CComparesPerWeight(t *testing.T) {
	for _, c := range []struct {
		loads *counter.Loads
		want  int // taken by all but the draws that hit the other one twice
	}{
		{loadsOf([2]int32{2, 0}, [2]int32{3, 0}), 1},
		{loadsOf([2]int32{1, 0}, [2]int32{2, 1}), 0},
	} {
		got := shares(mustNew(t, "p2c", candidates(1, 2)), &sched.State{Rand: 9}, c.loads, 2, 30_000)
		other := []float64{1. / 9, 4. / 9}[1-c.want]
		if !near(got[1-c.want], 30_000*other, 0.06) {
			t.Errorf("%v: want %d unless both draws hit %d", got, c.want, 1-c.want)
		}
	}
}

// TestP2CBalances: with many connections that stay, p2c balances far better than random.
func TestP2CBalances(t *testing.T) {
	spread := map[string]uint32{}
	for _, name := range []string{"random", "p2c"} {
		const backends, n = 50, 50 * 200
		s, st, loads := mustNew(t, name, equal(backends)), &sched.State{Rand: 5}, counter.NewLoads(1, backends)
		for range n {
			loads.Add(0, uint32(s.Pick(st, loads, nil)), 1, 0)
		}
		least, most := uint32(math.MaxUint32), uint32(0)
		for id := range uint32(backends) {
			least, most = min(least, loads.Of(id).Active), max(most, loads.Of(id).Active)
		}
		spread[name] = most - least
	}
	if spread["p2c"] > 10 || spread["p2c"]*3 > spread["random"] {
		t.Errorf("fullest minus emptiest backend: %v", spread)
	}
}

func ExampleNew() {
	list := []sched.Candidate{
		{ID: 0, Weight: 4, Up: true},
		{ID: 1, Weight: 2, Up: true},
		{ID: 2, Weight: 1, Up: true},
	}
	s, err := sched.New("wrr", list, [16]byte{})
	if err != nil {
		fmt.Println(err)
		return
	}
	var st sched.State
	for range 7 {
		fmt.Print(s.Pick(&st, nil, nil), " ")
	}
	// Output: 0 0 0 1 0 1 2
}
