package sched_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"sluice/pipeline/sched"
)

// clients picks for n clients and returns the chosen backends' ids, -1 for none.
func clients(t testing.TB, list []sched.Candidate, n int) []int {
	t.Helper()
	s, ids := mustNewCached(t, "mh", list), make([]int, n)
	for i := range ids {
		ids[i] = s.Pick(nil, nil, v4(uint32(i)*2654435761))
		if ids[i] >= 0 {
			ids[i] = int(list[ids[i]].ID)
		}
	}
	return ids
}

// moved counts clients that changed their backend although it was not one of those lost.
func moved(before, after []int, lost ...int) int {
	n := 0
	for i := range before {
		if after[i] != before[i] && !slices.Contains(lost, before[i]) {
			n++
		}
	}
	return n
}

// TestMHIsTheSameOnEveryBox: boxes with different versions must choose alike, so these choices must
// never change.
func TestMHIsTheSameOnEveryBox(t *testing.T) {
	list := candidates(1, 1, 2, 3, 1)
	list = append(list, sched.Candidate{ID: 5, Weight: 2, Up: true, Key: netip.MustParseAddrPort("[2001:db8::5]:8080")})
	want := []int{5, 1, 3, 1, 5, 1, 2, 3, 2, 3, 2, 3, 0, 3, 2, 3}
	if got := clients(t, list, len(want)); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	list[3].Up, list[5].Up = false, false
	want = []int{2, 1, 2, 1, 2, 1, 2, 0, 2, 0, 2, 2, 0, 2, 2, 2}
	if got := clients(t, list, len(want)); !slices.Equal(got, want) {
		t.Errorf("with two down: %v, want %v", got, want)
	}
}

func TestMHKeyMatters(t *testing.T) {
	list := equal(10)
	other, err := sched.New("mh", list, [16]byte{15: 1})
	if err != nil {
		t.Fatal(err)
	}
	s, same := mustNew(t, "mh", list), 0
	for n := range uint32(1000) {
		if s.Pick(nil, nil, v4(n)) == other.Pick(nil, nil, v4(n)) {
			same++
		}
	}
	if same > 200 {
		t.Errorf("%d of 1000 clients have the same of 10 backends under another key", same)
	}
}

// TestMHUsesTheClientAddress: only the client's address counts, as in IPVS without mh-port.
func TestMHUsesTheClientAddress(t *testing.T) {
	s := mustNew(t, "mh", equal(50))
	a, b := keyOf("192.0.2.1", "198.51.100.1"), keyOf("192.0.2.1", "203.0.113.9")
	b.ClientPort, b.VIPPort = 9, 443
	if s.Pick(nil, nil, a) != s.Pick(nil, nil, b) {
		t.Error("port or destination changed the choice")
	}
	half := [2]map[int]bool{{}, {}}
	for n := range uint64(200) {
		half[0][s.Pick(nil, nil, &sched.Key{Client: [2]uint64{n, 1}})] = true
		half[1][s.Pick(nil, nil, &sched.Key{Client: [2]uint64{1, n}})] = true
	}
	if len(half[0]) < 40 || len(half[1]) < 40 {
		t.Errorf("IPv6 clients reach %d and %d of 50 backends", len(half[0]), len(half[1]))
	}
}

func TestMHOrderInTheFileDoesNotMatter(t *testing.T) {
	list := candidates(1, 5, 2, 1, 0, 3, 7, 1)
	list[4].LastWeight = 2
	list[6].Up = false
	before := clients(t, list, 5000)
	r := rand.New(rand.NewPCG(1, 1))
	for range 5 {
		shuffled := slices.Clone(list)
		r.Shuffle(len(list), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if n := moved(before, clients(t, shuffled, 5000)); n > 0 {
			t.Errorf("%d of 5000 clients moved when the list was shuffled", n)
		}
	}
}

func TestMHSharesFollowWeights(t *testing.T) {
	const n = 300_000
	weights := []uint32{1, 2, 3, 10, 4}
	count := make([]int, len(weights))
	for _, id := range clients(t, candidates(weights...), n) {
		count[id]++
	}
	for i, w := range weights {
		if want := n * float64(w) / 20; !near(count[i], want, 0.03) {
			t.Errorf("weight %d: %d clients, want about %.0f", w, count[i], want)
		}
	}
}

// TestMHDownAndDrainMoveNoOthers: clients of backends that are down or drained go to all others by
// weight. No other client moves, and all come back.
func TestMHDownAndDrainMoveNoOthers(t *testing.T) {
	const n = 100_000
	list := candidates(1, 1, 1, 2, 1, 1, 1, 1, 1)
	before := clients(t, list, n)
	for _, c := range []struct {
		what string
		edit func(*sched.Candidate)
	}{
		{"down", func(c *sched.Candidate) { c.Up = false }},
		{"weight 0", func(c *sched.Candidate) { c.Weight = 0 }},
	} {
		edited := slices.Clone(list)
		c.edit(&edited[4])
		after := clients(t, edited, n)
		if m := moved(before, after, 4); m > 0 {
			t.Errorf("%s: %d clients of healthy backends moved", c.what, m)
		}
		got, orphans := make([]int, len(list)), 0
		for i, id := range after {
			if before[i] == 4 {
				got[id]++
				orphans++
			}
		}
		for id, heirs := range got {
			if id == 4 && heirs > 0 {
				t.Errorf("%s: still picked %d times", c.what, heirs)
			} else if want := float64(orphans) * float64(list[id].Weight) / 9; id != 4 && !near(heirs, want, 0.15) {
				t.Errorf("%s: backend %d inherits %d clients of %d, want about %.0f", c.what, id, heirs, orphans, want)
			}
		}
		// One more goes: only its own clients move, those it inherited included.
		further := slices.Clone(edited)
		c.edit(&further[7])
		if m := moved(after, clients(t, further, n), 7); m > 0 {
			t.Errorf("%s, one more: %d clients of healthy backends moved", c.what, m)
		}
	}
	if m := moved(before, clients(t, list, n)); m > 0 {
		t.Errorf("back as before: %d clients moved", m)
	}
}

// TestMHMassOutage: with nearly all weight down, the usable backends still get clients by weight,
// and no other client moves.
func TestMHMassOutage(t *testing.T) {
	const n = 40_000
	list := equal(200)
	for i := range list {
		list[i].Up = i < 5
	}
	list[0].Weight, list[0].LastWeight = 4, 4
	before := clients(t, list, n)
	count := make([]int, 5)
	for _, id := range before {
		count[id]++
	}
	for id, got := range count {
		if want := float64(n) * float64(list[id].Weight) / 8; !near(got, want, 0.1) {
			t.Errorf("backend %d: %d clients, want about %.0f", id, got, want)
		}
	}
	list[2].Up = false
	if m := moved(before, clients(t, list, n), 2); m > 0 {
		t.Errorf("one more down: %d clients of healthy backends moved", m)
	}
}

// TestMHRemovalDisruption: the removal of backends moves few clients of the others. The bounds are
// the expected results for a table of 65537 slots: on average 0.34 %, 0.55 %, 0.93 % and 0.59 %.
func TestMHRemovalDisruption(t *testing.T) {
	const n = 200_000
	for _, c := range []struct {
		backends, removed int
		percent           float64
	}{{10, 1, 0.8}, {100, 1, 0.9}, {100, 5, 1.5}, {1000, 1, 1.0}} {
		list := equal(c.backends)
		before := clients(t, list, n)
		var lost []int
		for i := range c.removed {
			lost = append(lost, c.backends/3+i)
		}
		after := clients(t, slices.Delete(slices.Clone(list), lost[0], lost[0]+c.removed), n)
		if got := 100 * float64(moved(before, after, lost...)) / n; got > c.percent {
			t.Errorf("%d of %d removed: %.2f %% of the clients moved needlessly, more than %.2f %%",
				c.removed, c.backends, got, c.percent)
		} else {
			t.Logf("%d of %d removed: %.2f %% of the clients moved needlessly", c.removed, c.backends, got)
		}
	}
}

// TestMHWeightChange: a change of weight moves about as many clients as it must.
func TestMHWeightChange(t *testing.T) {
	const n = 100_000
	list := candidates(10, 10, 10, 10, 10, 10, 10, 10, 10, 10)
	before := clients(t, list, n)
	list[3].Weight, list[3].LastWeight = 5, 5
	if got := 100 * float64(moved(before, clients(t, list, n), 3)) / n; got > 2 {
		t.Errorf("halving one weight of ten moved %.2f %% of the others' clients", got)
	}
}

func BenchmarkMHBuild(b *testing.B) {
	skewed := equal(100)
	skewed[0].Weight = sched.MaxWeight
	for _, c := range []struct {
		name string
		list []sched.Candidate
	}{{"backends=10", equal(10)}, {"backends=100", equal(100)}, {"backends=1000", equal(1000)}, {"skewed=100", skewed}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				mustNew(b, "mh", c.list)
			}
		})
	}
}

// TestMHByPort: with the client's port in the hash, the connections of one address are distributed,
// and each has the same backend at every time.
func TestMHByPort(t *testing.T) {
	list := equal(4)
	s, err := sched.NewBuilder(testKey).NewHashed("mh", true, list)
	if err != nil {
		t.Fatal(err)
	}
	count := make(map[int]int)
	for port := range uint16(4000) {
		k := v4(0xc0000201)
		k.ClientPort = port
		at := s.Pick(nil, nil, k)
		if count[at]++; s.Pick(nil, nil, k) != at {
			t.Fatalf("port %d: two choices", port)
		}
	}
	for at, n := range count {
		if n < 800 || n > 1200 {
			t.Errorf("backend %d has %d of 4000 connections", at, n)
		}
	}
}
