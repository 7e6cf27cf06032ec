package route

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"sluice/pipeline/nexthop"
)

// TestUnreachable checks with a kernel that addresses without route or neighbour become
// unreachable, and are reachable again when they have both.
func TestUnreachable(t *testing.T) {
	l := newLab(t)
	f := l.start(Config{Probe: 200 * time.Millisecond})
	all := addrs("10.0.0.2", "10.0.0.77", "192.0.2.1", "2001:db8::77", "2001:db8::2")
	f.SetNeighbours(all)
	s := await(t, f, "three are unreachable", func(s *Snapshot) bool { return len(s.Unreachable) == 3 })
	for addr, want := range map[string]string{
		"10.0.0.77":    "no neighbour: 10.0.0.77 on p0 does not answer ARP",
		"2001:db8::77": "no neighbour: 2001:db8::77 on p0 does not answer neighbour discovery",
		"192.0.2.1":    "no route: the kernel's main table does not lead to 192.0.2.1 by a port of Sluice",
	} {
		u := s.Unreachable[netip.MustParseAddr(addr)]
		if got := u.Reason + ": " + u.Detail; got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
		if time.Since(u.Since) < unreachableAfter {
			t.Errorf("%s is unreachable after %v", addr, time.Since(u.Since))
		}
	}
	l.addr(l.peer, "q0", "10.0.0.77/24")
	l.must(l.box.RouteAdd(l.route("192.0.2.0/24", "10.1.0.2", "p1", 0)))
	await(t, f, "one is left", func(s *Snapshot) bool { return len(s.Unreachable) == 1 })
	f.SetNeighbours(addrs("10.0.0.2"))
	await(t, f, "none is left", func(s *Snapshot) bool { return len(s.Unreachable) == 0 })
}

// TestResolutions checks what counts as a failed resolution.
func TestResolutions(t *testing.T) {
	ports := []nexthop.PortInfo{{Up: true, Name: "p0"}, {Name: "p1"}}
	network := func(prefix string, port uint8) nexthop.Route {
		return nexthop.Route{Prefix: netip.MustParsePrefix(prefix), Port: port}
	}
	gateway := network("192.0.2.0/24", 0)
	gateway.Via = netip.MustParseAddr("10.0.0.1")
	table := nexthop.Build(ports, []nexthop.Route{network("10.0.0.0/24", 0), network("10.1.0.0/24", 1), gateway}, nil)
	const asking = 1 // NUD_INCOMPLETE
	state := func(addr string, state int) map[nexthop.Hop]int {
		return map[nexthop.Hop]int{{Addr: netip.MustParseAddr(addr)}: state}
	}
	start := time.Unix(1000, 0)
	for name, c := range map[string]struct {
		addr   string
		states map[nexthop.Hop]int
		every  time.Duration
		want   string // at the end, "" if it is not unreachable
		looks  int    // that it takes
	}{
		"no route":      {"198.51.100.1", nil, time.Second, "no route", 4},
		"often":         {"198.51.100.1", nil, time.Millisecond, "no route", 3001},
		"rarely":        {"198.51.100.1", nil, time.Minute, "no route", 4},
		"asked":         {"10.0.0.9", state("10.0.0.9", asking), time.Second, "no neighbour", 4},
		"never asked":   {"10.0.0.9", nil, time.Second, "", 0},
		"other asked":   {"10.0.0.9", state("10.0.0.8", asking), time.Second, "", 0},
		"gateway asked": {"192.0.2.7", state("10.0.0.1", asking), time.Second, "no neighbour", 4},
		"port is down":  {"10.1.0.9", nil, time.Second, "port is down", 4},
	} {
		var r resolutions
		looks, addr := 0, netip.MustParseAddr(c.addr)
		for now := start; looks < 5000 && len(r.unreachable) == 0; now = now.Add(c.every) {
			looks++
			r.look([]netip.Addr{addr}, table, c.states, []string{"p0", "p1"}, true, now)
			for range 9 { // readings between two of them count nothing
				r.look([]netip.Addr{addr}, table, c.states, []string{"p0", "p1"}, false, now)
			}
		}
		u := r.unreachable[addr]
		if u.Reason != c.want || c.want != "" && looks != c.looks {
			t.Errorf("%s: %q after %d looks, want %q after %d", name, u.Reason, looks, c.want, c.looks)
		}
		if c.want != "" && !strings.HasPrefix(u.String(), c.want+" since ") {
			t.Errorf("%s: %s", name, u)
		}
	}
}
