package snat

import "testing"

// TestAdmits checks how many unproven connections a service may have in a pool of 6400 ports.
func TestAdmits(t *testing.T) {
	for _, test := range []struct {
		proven, part, most int32
	}{
		{0, whole / 2, 3200}, {0, whole, 6400}, {400, whole / 2, 3000}, {6390, whole / 2, 100}, {0, 1, 100},
	} {
		allowed := ports(10_000, 16_399)
		pool := newPool(newLayout(every), allowed, 0)
		pool.AddProven(test.proven)
		n := int32(0)
		for pool.Admits(memory, allowed, 3, uint32(test.part)) {
			pool.AddUnproven(3, 1)
			n++
		}
		if n != test.most || !pool.Admits(memory, allowed, 4, uint32(test.part)) || pool.Admits(memory, allowed, 3+censusCells, uint32(test.part)) {
			t.Errorf("%d proven, part %d: %d unproven, want %d", test.proven, test.part, n, test.most)
		}
		pool.AddUnproven(3, -1)
		if !pool.Admits(memory, allowed, 3, uint32(test.part)) {
			t.Error("none is admitted after one has gone")
		}
	}
}
