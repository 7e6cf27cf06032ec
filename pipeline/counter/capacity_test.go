package counter

import (
	"sync"
	"testing"
)

// TestCapacity: workers that take and give back at the same time never have more than there is, and
// one can have what others do not use, up to one and a half even shares.
func TestCapacity(t *testing.T) {
	for _, test := range []struct{ workers, entries, most int }{
		{1, 1024, 1024}, {2, 1024, 768}, {4, 10_000, 3750}, {3, 7, 4}, {256, 1024, 6},
	} {
		c := NewCapacity(test.workers, test.entries)
		shares := make([]*Share, test.workers)
		for i := range shares {
			shares[i] = c.NewShare()
		}
		var workers sync.WaitGroup
		for _, s := range shares {
			workers.Go(func() {
				for n := range 20_000 {
					if s.Grow() && n%3 != 0 {
						s.Free--
					} else if s.taken > s.Free {
						s.Free++ // an entry is removed
					}
					s.Shrink()
				}
			})
		}
		workers.Wait()
		taken := 0
		for _, s := range shares {
			taken += s.taken
		}
		if free := int(c.free.Load()); free < 0 || taken+free != test.entries {
			t.Errorf("%+v: %d taken, %d free", test, taken, free)
		}
		for _, s := range shares {
			s.Free = s.taken // all entries are removed
			s.Shrink()
			if s.taken >= 2*s.block {
				t.Errorf("%+v: an idle worker keeps %d, blocks are of %d", test, s.taken, s.block)
			}
		}
		one, entries := shares[0], 0
		for ; one.Grow(); entries++ {
			one.Free--
		}
		idle := (test.workers - 1) * 2 * one.block
		if entries > test.most || entries < min(test.most, test.entries-idle) {
			t.Errorf("%+v: one worker has %d entries", test, entries)
		}
	}
}
