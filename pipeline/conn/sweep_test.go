package conn

import (
	"testing"

	"sluice/pipeline/packet"
)

// fullTable is full of entries that expire at 1000.
func fullTable(t *testing.T, family, capacity int) *Table {
	tab := newTable(family, capacity, nil)
	for i := range capacity {
		c := client(family, i)
		e := tab.Insert(homeOf(tab, c, 1, 6), c, Key{1, 1, 80}, packet.Addr{}, 0, 0, 0)
		if e == nil {
			t.Fatalf("v%d: insertion %d of %d refused", family, i, capacity)
		}
		e.Expires = 1000
	}
	return tab
}

// TestSweepWithin: a sweep reads at most as many slots as it may, removes the expired entries among
// them, and the next one continues there.
func TestSweepWithin(t *testing.T) {
	for _, family := range []int{4, 6} {
		const capacity, time = 20_000, 3000
		tab := fullTable(t, family, capacity)
		if passed := tab.SweepWithin(999, 1<<30, time); passed < time || passed >= time+sweepStride || tab.Len() != capacity {
			t.Errorf("v%d: %d slots in the time of %d; %d entries left", family, passed, time, tab.Len())
		}
		if passed := tab.SweepWithin(999, 100, time); passed != 100 {
			t.Errorf("v%d: %d slots instead of 100", family, passed)
		}
		passed, before := 0, tab.Len()
		for passed < tab.SweepSlots() {
			n := tab.SweepWithin(1000, tab.SweepSlots()-passed, time)
			removed := before - tab.Len()
			if cost := n + visitCost*removed; n == 0 || cost > time+(1+visitCost)*sweepStride {
				t.Fatalf("v%d: %d slots with %d removals in the time of %d slots", family, n, removed, time)
			}
			passed, before = passed+n, tab.Len()
		}
		if tab.Len() != 0 {
			t.Errorf("v%d: %d entries left after a round", family, tab.Len())
		}
		if passed := tab.SweepWithin(2000, tab.SweepSlots(), time); passed != tab.SweepSlots() {
			t.Errorf("v%d: an empty table is swept in parts: %d of %d", family, passed, tab.SweepSlots())
		}
	}
}
