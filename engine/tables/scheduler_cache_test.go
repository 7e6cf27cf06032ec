package tables

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"sluice/pipeline"
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
	u := c.update(0, "key", true, time.Time{})
	get := func(service uint32, backends int) sched.Scheduler {
		t.Helper()
		var s pipeline.Service
		if err := u.scheduler(service, &s, schedulerKind{name: "mh"}, pool(backends)); err != nil {
			t.Fatal(err)
		}
		return s.Scheduler
	}
	var stays sched.Scheduler
	for n := range 100 {
		u = c.update(200, "key", true, time.Time{})
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
		u := c.update(2, "key", c.builder == nil, time.Time{})
		if err := u.scheduler(1, new(pipeline.Service), schedulerKind{name: "mh"}, candidates); err != nil {
			t.Fatal(err)
		}
		next := u.finish(1)
		if c.builder != nil && (next.builder != c.builder || &next.cached[0] != &c.cached[0]) {
			t.Error("an update without changes is a copy")
		}
		c = next
	}
	u := c.update(2, "key", false, time.Time{})
	candidates[0].Weight, candidates[0].LastWeight = 2, 2
	if err := u.scheduler(1, new(pipeline.Service), schedulerKind{name: "mh"}, candidates); err != nil {
		t.Fatal(err)
	}
	if c.cached[1].candidates[0].Weight != 1 {
		t.Error("an update changed what it was made from")
	}
	if next := u.finish(1); next.cached[1].candidates[0].Weight != 2 {
		t.Error("an update was lost")
	}
}

// TestEarlierChoice: what a service that adopts connections chose from before a change is kept
// until SettleTime after the last of several changes while it adopts. Until then the numbers of
// those backends do not become free.
func TestEarlierChoice(t *testing.T) {
	now := time.Unix(1000, 0)
	var c schedulers
	step := func(after time.Duration, adopt bool, ids ...uint32) *pipeline.Choice {
		t.Helper()
		now = now.Add(after)
		u := c.update(2, "key", c.builder == nil, now)
		s := pipeline.Service{Backends: ids}
		var candidates []sched.Candidate
		for _, id := range ids {
			candidates = append(candidates, sched.Candidate{ID: id, Weight: 1, Up: true, Key: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(id)}), 80)})
		}
		if err := u.scheduler(1, &s, schedulerKind{name: "mh", adopt: adopt}, candidates); err != nil {
			t.Fatal(err)
		}
		c = u.finish(1)
		return s.Earlier
	}
	is := func(e *pipeline.Choice, ids ...uint32) {
		t.Helper()
		switch {
		case e == nil && ids != nil, e != nil && !slices.Equal(e.Backends, ids):
			t.Errorf("earlier choice %+v, want %v", e, ids)
		case c.settles.IsZero() != (ids == nil):
			t.Errorf("settles at %v with the earlier choice %v", c.settles, ids)
		}
	}
	is(step(0, true, 1, 2))
	is(step(time.Hour, true, 1, 2, 3), 1, 2)
	is(step(SettleTime/2, true, 1, 2, 3), 1, 2)
	is(step(SettleTime/4, true, 1, 2, 3, 4), 1, 2) // the first of several changes
	is(step(SettleTime/2, true, 1, 2, 3, 4), 1, 2)
	if free := c.without([]uint32{2, 9}); !slices.Equal(free, []uint32{9}) {
		t.Errorf("%v become free", free)
	}
	if c.settled(1, now) {
		t.Error("settled too early")
	}
	now = c.settles
	if !c.settled(1, now) {
		t.Error("not settled in time")
	}
	is(step(0, true, 1, 2, 3, 4))
	is(step(0, true, 2, 3, 4), 1, 2, 3, 4)
	is(step(SettleTime/2, false, 3, 4), 1, 2, 3, 4) // does not adopt any more
	is(step(SettleTime/4, false, 4), 1, 2, 3, 4)
	is(step(3*SettleTime/4, false, 4, 5)) // a minute after it did
	is(step(0, true, 4))
	if free := c.without([]uint32{2, 9}); len(free) != 2 {
		t.Errorf("%v become free", free)
	}
}
