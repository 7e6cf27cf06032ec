package route

import (
	"fmt"
	"maps"
	"net/netip"
	"time"

	"sluice/pipeline/nexthop"
	"sluice/pipeline/packet"
)

// Unreachable is why no packet can be sent to an address of SetNeighbours.
type Unreachable struct {
	Reason string // "no route", "no neighbour" or "port is down"
	Detail string // a sentence without a capital letter
	Since  time.Time
}

// String returns the reason with its time: "no neighbour since 2026-11-30 11:58:03: ...".
func (u Unreachable) String() string {
	return fmt.Sprintf("%s since %s: %s", u.Reason, u.Since.Format(time.DateTime), u.Detail)
}

// WhyUnreachable returns why no packet can be sent to an address, by address.
func (s *Snapshot) WhyUnreachable() map[netip.Addr]string {
	why := make(map[netip.Addr]string, len(s.Unreachable))
	for addr, u := range s.Unreachable {
		why[addr] = u.String()
	}
	return why
}

// Before an address is unreachable, so many resolutions must have failed, and so much time have
// passed: a host that restarts its network, or a lost ARP request, is no event.
const (
	failedResolutions = 3
	unreachableAfter  = 3 * time.Second
)

// resolutions counts the failed resolutions of addresses. It belongs to the goroutine of follow.
//
// A resolution is a look, one per interval of Config.Probe, that finds neither the address's route
// nor its MAC address. It counts only if the kernel was asking for the neighbour at the look before
// too: an address that was not asked for yet is unknown, not unreachable.
type resolutions struct {
	failing     map[netip.Addr]*failing
	unreachable map[netip.Addr]Unreachable // replaced, never written: snapshots share it
}

// failing is an address without a next hop.
type failing struct {
	Unreachable
	failed int
	tried  bool // at the last look there was no route, or the kernel was asking
}

// look updates the addresses after a reading. probe is true once per interval: it counts. It
// reports whether the unreachable addresses are other ones.
func (r *resolutions) look(addrs []netip.Addr, table *nexthop.Table, states map[nexthop.Hop]int, ports []string, probe bool, now time.Time) (changed bool) {
	before, next := r.failing, make(map[netip.Addr]*failing)
	unreachable := make(map[netip.Addr]Unreachable)
	for _, addr := range addrs {
		to := packet.AddrFrom(addr)
		link, reason := table.Lookup(to)
		if link != nil {
			continue
		}
		f := before[addr]
		if f == nil {
			f = &failing{Unreachable: Unreachable{Since: now}}
		}
		next[addr] = f
		tried := true
		f.Reason, f.Detail = "no route", fmt.Sprintf("the kernel's main table does not lead to %s by a port of Sluice", addr)
		if hop, routed := table.NextHop(to); routed {
			state, known := states[hop]
			tried = known && state&usable == 0
			f.Reason, f.Detail = "no neighbour", silence(addr, hop, ports)
		} else if reason.String() == "port_down" {
			f.Reason, f.Detail = "port is down", reason.Text()
		}
		if probe {
			if tried && f.tried {
				f.failed++
			}
			f.tried = tried
		}
		if f.failed >= failedResolutions && now.Sub(f.Since) >= unreachableAfter {
			unreachable[addr] = f.Unreachable
		}
	}
	r.failing = next
	if maps.Equal(unreachable, r.unreachable) {
		return false
	}
	r.unreachable = unreachable
	return true
}

// silence says which neighbour does not answer.
func silence(addr netip.Addr, hop nexthop.Hop, ports []string) string {
	asked, at := "ARP", ports[hop.Port]
	if hop.Addr.Is6() {
		asked = "neighbour discovery"
	}
	if hop.VLAN != 0 {
		at = fmt.Sprintf("%s, VLAN %d,", at, hop.VLAN)
	}
	if hop.Addr != addr {
		return fmt.Sprintf("its gateway %s on %s does not answer %s", hop.Addr, at, asked)
	}
	return fmt.Sprintf("%s on %s does not answer %s", addr, at, asked)
}

// followUnreachable publishes a snapshot if other addresses are unreachable than before.
func (f *Follower) followUnreachable(probe bool) {
	newest := f.newest.Load()
	if !f.resolutions.look(f.neighbours, newest.Table, f.kernel.states, f.kernel.names, probe, time.Now()) {
		return
	}
	next := *newest
	next.Unreachable = f.resolutions.unreachable
	f.store(&next)
}
