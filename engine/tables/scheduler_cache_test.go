package tables

import (
	"fmt"
	"net/netip"
	"testing"

	"sluice/pipeline/sched"
	"sluice/pipeline/service"
)

// TestPoolsAreForgotten: however often a service's backends change, and services come and go, the
// schedulers of those there are stay, and few of those that were (131 kB each).
func TestPoolsAreForgotten(t *testing.T) {
	key := func(n int) service.Key {
		return service.Key{Address: netip.MustParseAddr("198.51.100.10"), Ports: service.Ports{First: uint16(n), Last: uint16(n)}, Protocol: service.TCP}
	}
	pool := func(n int) []sched.Candidate {
		one := func(id uint32, addr string) sched.Candidate {
			return sched.Candidate{ID: id, Weight: 1, LastWeight: 1, Up: true, Key: netip.MustParseAddrPort(addr)}
		}
		return []sched.Candidate{one(1, "10.0.0.11:80"), one(uint32(2+n), fmt.Sprintf("10.0.1.%d:80", n))}
	}
	c := NewSchedulerCache()
	make := func(service, backends int) sched.Scheduler {
		t.Helper()
		s, err := c.scheduler(key(service), "mh", pool(backends), "key")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	stays := make(1, 0)
	for n := range 100 {
		make(2+n, n) // a service that comes and goes
		make(1000, n)
		c.forget(map[service.Key]bool{key(1): true, key(1000): true})
		if len(c.last) != 2 || c.builder.Len() > 2*2+16+4 {
			t.Fatalf("after %d reloads %d pools and %d tables are remembered", n+1, len(c.last), c.builder.Len())
		}
	}
	if make(1, 0) != stays {
		t.Error("a pool that did not change has a new scheduler")
	}
}
