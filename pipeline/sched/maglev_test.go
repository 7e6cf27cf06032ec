package sched

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/dchest/siphash"
)

// slowMaglev writes the whole permutation of every backend down, as the paper does, and hands out
// turns by credit: each round a backend earns its weight and pays the heaviest's weight for a slot.
func slowMaglev(k0, k1 uint64, members []member) []int {
	permutation := make([][]int, len(members))
	for i, m := range members {
		a, b := siphash.Hash128(k0, k1, identityBytes(m.key))
		offset, skip := int(a%maglevSlots), int(b%(maglevSlots-1)+1)
		permutation[i] = make([]int, maglevSlots)
		for j := range permutation[i] {
			permutation[i][j] = (offset + j*skip) % maglevSlots
		}
	}
	heaviest := uint32(0)
	for _, m := range members {
		heaviest = max(heaviest, m.weight)
	}
	table := slices.Repeat([]int{-1}, maglevSlots)
	next, credit := make([]int, len(members)), make([]uint32, len(members))
	for n := 0; ; {
		for i, m := range members {
			if credit[i] += m.weight; credit[i] < heaviest {
				continue
			}
			credit[i] -= heaviest
			for table[permutation[i][next[i]]] >= 0 {
				next[i]++
			}
			table[permutation[i][next[i]]] = i
			if n++; n == maglevSlots {
				return table
			}
		}
	}
}

// identityBytes is address and port, 16 and 2 bytes.
func identityBytes(key netip.AddrPort) []byte {
	a := key.Addr().As16()
	return append(a[:], byte(key.Port()>>8), byte(key.Port()))
}

// randomMembers makes n sorted members with weights up to limit.
func randomMembers(r *rand.Rand, n int, limit uint32) []member {
	members := make([]member, n)
	for i := range members {
		addr := netip.AddrFrom4([4]byte{10, byte(i), byte(r.Uint32()), byte(r.Uint32())})
		if r.IntN(3) == 0 {
			addr = netip.AddrFrom16([16]byte{0x20, 0x01, 0xd, 0xb8, 4: byte(i), 15: byte(r.Uint32())})
		}
		members[i] = member{netip.AddrPortFrom(addr, uint16(r.Uint32())), 1 + r.Uint32N(limit)}
	}
	slices.SortFunc(members, func(a, b member) int { return a.key.Compare(b.key) })
	return members
}

func compareWithSlow(t *testing.T, k0, k1 uint64, members []member) {
	t.Helper()
	got, want := newMaglev(k0, k1, members), slowMaglev(k0, k1, members)
	for slot := range want {
		if int(got[slot]) != want[slot] {
			t.Fatalf("slot %d of %+v: %d, the slow twin has %d", slot, members, got[slot], want[slot])
		}
	}
}

func TestMaglevAgainstSlowTwin(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, c := range []struct {
		n     int
		limit uint32
	}{{1, 1}, {2, 1}, {10, 1}, {10, 9}, {40, 100}, {3, MaxWeight}} {
		compareWithSlow(t, r.Uint64(), r.Uint64(), randomMembers(r, c.n, c.limit))
	}
	compareWithSlow(t, 1, 2, []member{
		{netip.MustParseAddrPort("10.0.0.1:80"), MaxWeight}, {netip.MustParseAddrPort("10.0.0.2:80"), 1},
	})
}

func FuzzMaglev(f *testing.F) {
	f.Add(uint64(1), uint8(4), uint16(3))
	f.Add(uint64(2), uint8(0), uint16(0))
	f.Add(uint64(3), uint8(19), uint16(65534))
	f.Fuzz(func(t *testing.T, seed uint64, n uint8, limit uint16) {
		r := rand.New(rand.NewPCG(seed, 0))
		members := randomMembers(r, 1+int(n%20), min(uint32(limit)+1, MaxWeight))
		compareWithSlow(t, seed, ^seed, members)

		// Balance: every share is within a slot or two of its weight's, and at least what rounding
		// leaves.
		count, sum, heaviest := make([]float64, len(members)), 0.0, 0.0
		for _, rank := range newMaglev(seed, ^seed, members) {
			count[rank]++
		}
		for _, m := range members {
			sum += float64(m.weight)
			heaviest = max(heaviest, float64(m.weight))
		}
		rounds := maglevSlots * heaviest / sum
		for i, m := range members {
			if want := rounds * float64(m.weight) / heaviest; count[i] < want-float64(len(members)) || count[i] > want+float64(len(members)) {
				t.Fatalf("weight %d of %+v: %.0f slots, want about %.1f", m.weight, members, count[i], want)
			}
		}
	})
}

// FuzzMHOrder: the choices among any members are the same in any order, and when one backend goes
// down only its clients move.
func FuzzMHOrder(f *testing.F) {
	f.Add(uint64(1), uint8(4), uint8(1))
	f.Add(uint64(9), uint8(16), uint8(5))
	f.Fuzz(func(t *testing.T, seed uint64, n, victim uint8) {
		r := rand.New(rand.NewPCG(seed, 1))
		members := randomMembers(r, 2+int(n%16), 1+r.Uint32N(50))
		list := make([]Candidate, len(members))
		for i, m := range members {
			list[i] = Candidate{ID: uint32(i), Weight: m.weight, LastWeight: m.weight, Up: r.IntN(5) > 0, Key: m.key}
			if r.IntN(6) == 0 {
				list[i].Weight = 0
			}
		}
		b := NewBuilder([16]byte{byte(seed)})
		choose := func(list []Candidate) []int {
			s, err := b.New("mh", list)
			if err != nil {
				t.Fatal(err)
			}
			ids := make([]int, 2000)
			for i := range ids {
				k := Key{Client: [2]uint64{seed, uint64(i)}}
				if ids[i] = s.Pick(nil, nil, &k); ids[i] >= 0 {
					ids[i] = int(list[ids[i]].ID)
				}
			}
			return ids
		}
		before := choose(list)
		shuffled := slices.Clone(list)
		r.Shuffle(len(list), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if !slices.Equal(before, choose(shuffled)) {
			t.Fatal("the order of the list matters")
		}
		lost := int(victim) % len(list)
		list[lost].Up = false
		for i, id := range choose(list) {
			if before[i] != lost && id != before[i] || id == lost {
				t.Fatalf("client %d moved from %d to %d when %d went down", i, before[i], id, lost)
			}
		}
		if len(b.tables) != 1 {
			t.Fatalf("%d tables for equal members", len(b.tables))
		}
	})
}

// TestBuilderSharesTables: equal members use one table, proportional weights included; Sweep
// removes unused ones.
func TestBuilderSharesTables(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	b := NewBuilder([16]byte{1})
	make2 := func(factor uint32, up bool) []Candidate {
		list := []Candidate{}
		for i, m := range randomMembers(rand.New(rand.NewPCG(1, 1)), 5, 1) {
			w := factor * uint32(i+1)
			list = append(list, Candidate{ID: r.Uint32N(9), Weight: w, LastWeight: w, Up: up, Key: m.key})
		}
		return list
	}
	table := func(list []Candidate) *maglev {
		s, err := b.New("mh", list)
		if err != nil {
			t.Fatal(err)
		}
		return s.(*mh).table
	}
	first := table(make2(1, true))
	drained := make2(1, true)
	drained[2].Weight = 0
	reversed := make2(1, true)
	slices.Reverse(reversed)
	for what, list := range map[string][]Candidate{
		"equal": make2(1, true), "down": make2(1, false), "twice the weights": make2(2, true),
		"drained": drained, "reversed": reversed,
	} {
		if table(list) != first {
			t.Errorf("%s: a table of its own", what)
		}
	}
	other := table(make2(1, true)[1:])
	if other == first {
		t.Error("other members use the same table")
	}
	b.Sweep()
	if table(make2(1, true)) != first {
		t.Error("a table in use was forgotten")
	}
	b.Sweep()
	if table(make2(1, true)[1:]) == other {
		t.Error("a table out of use was kept")
	}
}
