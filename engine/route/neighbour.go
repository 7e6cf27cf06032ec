package route

import (
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"sluice/pipeline/nexthop"
)

// Resolve asks the kernel for the neighbour that packets to addr are sent to, which is addr itself
// or a gateway. It returns at once; when the neighbour answers, a new Snapshot has it. It returns
// false, and does nothing, if the same address was requested within the last second or if too many
// others were. The limit protects the kernel's neighbour table from packets to many addresses that
// do not exist. Pass the packet's destination rather than a link-local gateway: the gateway's
// address does not identify its port.
func (f *Follower) Resolve(addr netip.Addr) bool {
	f.mu.Lock()
	ok := f.resolves.allow(addr, time.Now())
	if ok {
		f.pending = append(f.pending, addr)
	}
	f.mu.Unlock()
	if ok {
		f.wakeUp()
	}
	return ok
}

// SetNeighbours sets the addresses for which neighbours are resolved and kept fresh from now on:
// those of the backends. It replaces the earlier list. The gateways of routes through our ports
// need not be listed.
func (f *Follower) SetNeighbours(addrs []netip.Addr) {
	f.mu.Lock()
	f.requested = slices.Clone(addrs)
	f.mu.Unlock()
	f.wakeUp()
}

// askPending asks for the addresses passed to Resolve.
func (f *Follower) askPending() {
	f.mu.Lock()
	pending := f.pending
	f.pending = nil
	f.neighbours = f.requested
	f.mu.Unlock()
	for _, addr := range pending {
		if hop, ok := f.neighbourOf(addr); ok {
			f.ask(hop)
		}
	}
}

// askNeighbours asks for those gateways and neighbours of SetNeighbours that are missing or stale.
func (f *Follower) askNeighbours() {
	for _, hop := range f.gateways {
		f.ask(hop)
	}
	for _, addr := range f.neighbours {
		if hop, ok := f.neighbourOf(addr); ok {
			f.ask(hop)
		}
	}
}

// ask makes the kernel resolve or confirm a neighbour, unless that is unnecessary or already under
// way. A stale neighbour stays usable meanwhile.
//
// A permanent entry is left alone: NTF_USE would make it non-permanent (__neigh_update).
func (f *Follower) ask(hop nexthop.Hop) {
	const settled = netlink.NUD_INCOMPLETE | (usable &^ netlink.NUD_STALE)
	if f.kernel.states[hop]&settled != 0 || !f.kernel.ports[hop.Port].Up || !f.asked.allow(hop, time.Now()) {
		return
	}
	for _, e := range f.kernel.egress {
		if e.port != hop.Port || e.vlan != hop.VLAN {
			continue
		}
		err := f.kernel.handle.NeighSet(&netlink.Neigh{
			LinkIndex: e.ifindex,
			IP:        hop.Addr.AsSlice(),
			State:     netlink.NUD_NONE,
			Flags:     netlink.NTF_USE,
		})
		if err != nil && f.complaints.allow(err.Error(), time.Now()) {
			f.log.Warn("the kernel does not resolve a neighbour", "address", hop.Addr, "error", err)
		}
	}
}

// askedFor is Snapshot.Asked. Any goroutine may call it.
func (f *Follower) askedFor(hop nexthop.Hop) bool {
	state, known := (*f.kernel.latest.Load())[hop]
	return known && state&usable == 0
}

// gateways returns the gateways of routes that leave by our ports, each once, at most so many.
func (k *kernel) gateways(most int) []nexthop.Hop {
	seen := make(map[nexthop.Hop]struct{})
	var list []nexthop.Hop
	add := func(leg nexthop.Leg) {
		hop := nexthop.Hop{Addr: leg.Via, Port: leg.Port, VLAN: leg.VLAN}
		if _, ok := seen[hop]; ok || !leg.Via.IsValid() || leg.Kind != nexthop.Unicast || len(list) == most {
			return
		}
		seen[hop] = struct{}{}
		list = append(list, hop)
	}
	for i := range k.routes {
		r := &k.routes[i]
		add(nexthop.Leg{Via: r.Via, Port: r.Port, VLAN: r.VLAN, Kind: r.Kind})
		for _, leg := range r.Also {
			add(leg)
		}
	}
	return list
}
