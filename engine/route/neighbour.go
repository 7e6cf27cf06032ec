package route

import (
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"sluice/pipeline/nexthop"
)

// Resolve asks for the neighbour that packets to addr are handed to, be it addr itself or a
// gateway. It returns at once; when the neighbour answers, a new Snapshot has it. It reports false,
// and does nothing, if the same address was asked for within the last second or too many others
// were: the limit protects the kernel's neighbour table from whoever sends to many addresses that
// don't exist. Give the packet's destination rather than a link-local gateway, whose address
// doesn't say which port it is at.
func (f *Follower) Resolve(addr netip.Addr) bool {
	f.mu.Lock()
	ok := f.resolves.allow(addr, time.Now())
	if ok {
		f.pending = append(f.pending, addr)
	}
	f.mu.Unlock()
	if ok {
		f.poke()
	}
	return ok
}

// Keep names the addresses whose neighbours are to be resolved, and kept fresh, from now on: those
// of the backends. It replaces the earlier list. The gateways of routes through our ports need not
// be named.
func (f *Follower) Keep(addrs []netip.Addr) {
	f.mu.Lock()
	f.wanted = slices.Clone(addrs)
	f.mu.Unlock()
	f.poke()
}

// askPending asks for what Resolve left.
func (f *Follower) askPending() {
	f.mu.Lock()
	pending := f.pending
	f.pending = nil
	f.kept = f.wanted
	f.mu.Unlock()
	for _, addr := range pending {
		if hop, ok := f.want(addr); ok {
			f.ask(hop)
		}
	}
}

// askKept asks for the kept neighbours that are missing or stale.
func (f *Follower) askKept() {
	for _, hop := range f.gateways {
		f.ask(hop)
	}
	for _, addr := range f.kept {
		if hop, ok := f.want(addr); ok {
			f.ask(hop)
		}
	}
}

// ask makes the kernel resolve or confirm a neighbour, unless it is doing so already or has no need
// to. A stale neighbour stays usable meanwhile.
//
// The kernel takes away the permanence of an entry that is "used" so (__neigh_update); one that is
// permanent is left alone.
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
			f.log.Warn("the kernel won't resolve a neighbour", "address", hop.Addr, "error", err)
		}
	}
}

// gateways lists the gateways of routes that leave by our ports, each once, so many at most.
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
