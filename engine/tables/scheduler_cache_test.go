package tables

import (
	"fmt"
	"net/netip"
	"testing"

	"sluice/pipeline/sched"
)

// TestSchedulersAreForgotten: however often a service's backends change, and services come and go,
// the schedulers of the configured services are retained, and few of the others (131 kB each).
func TestSchedulersAreForgotten(t *testing.T) {
	pool := func(n int) []sched.Candidate {
		one := func(id uint32, addr string) sched.Candidate {
			return sched.Candidate{ID: id, Weight: 1, LastWeight: 1, Up: true, Key: netip.MustParseAddrPort(addr)}
		}
		return []sched.Candidate{one(1, "10.0.0.11:80"), one(uint32(2+n), fmt.Sprintf("10.0.1.%d:80", n))}
	}
	var c schedulers
	u := c.update(0, "key", true)
	get := func(service uint32, backends int) sched.Scheduler {
		t.Helper()
		s, err := u.scheduler(service, "mh", pool(backends))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	var stays sched.Scheduler
	for n := range 100 {
		u = c.update(200, "key", true)
		s := get(1, 0)
		if stays != nil && s != stays {
			t.Fatal("a service that did not change has a new scheduler")
		}
		stays = s
		get(uint32(2+n), n) // a service that comes and goes
		get(150, n)
		c = u.finish(3)
		cached := 0
		for i := range c.cached {
			if c.cached[i].scheduler != nil {
				cached++
			}
		}
		if cached != 3 || c.builder.Len() > 2*3+16+4 {
			t.Fatalf("after %d reloads %d schedulers and %d tables are retained", n+1, cached, c.builder.Len())
		}
	}
}

// TestSchedulerUpdateShares: an update in which nothing changes retains the slice and the builder
// of the tables before.
func TestSchedulerUpdateShares(t *testing.T) {
	candidates := []sched.Candidate{{ID: 1, Weight: 1, LastWeight: 1, Up: true, Key: netip.MustParseAddrPort("10.0.0.11:80")}}
	var c schedulers
	for range 2 {
		u := c.update(2, "key", c.builder == nil)
		if _, err := u.scheduler(1, "mh", candidates); err != nil {
			t.Fatal(err)
		}
		next := u.finish(1)
		if c.builder != nil && (next.builder != c.builder || &next.cached[0] != &c.cached[0]) {
			t.Error("an update without changes is a copy")
		}
		c = next
	}
	u := c.update(2, "key", false)
	candidates[0].Weight, candidates[0].LastWeight = 2, 2
	if _, err := u.scheduler(1, "mh", candidates); err != nil {
		t.Fatal(err)
	}
	if c.cached[1].candidates[0].Weight != 1 {
		t.Error("an update changed what it was made from")
	}
	if next := u.finish(1); next.cached[1].candidates[0].Weight != 2 {
		t.Error("an update was lost")
	}
}
