package port

import (
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
)

// HasDefaultRoute reports whether a default route of the calling thread's network namespace leaves
// by an interface: by itself, or by one that is made of it (a VLAN, a macvlan, a bridge, a bond).
// It is not an error if the interface does not exist.
func HasDefaultRoute(ifname string) (bool, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return false, fmt.Errorf("interfaces: %w", err)
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return false, fmt.Errorf("routes: %w", err)
	}
	for i := range routes {
		r := &routes[i]
		if r.Dst != nil {
			if bits, _ := r.Dst.Mask.Size(); bits != 0 {
				continue
			}
		}
		out := []int{r.LinkIndex}
		for _, hop := range r.MultiPath {
			out = append(out, hop.LinkIndex)
		}
		if slices.ContainsFunc(out, func(index int) bool { return madeOf(links, index, ifname, len(links)) }) {
			return true, nil
		}
	}
	return false, nil
}

// madeOf reports whether the interface with an index is the named one, or is made of it in at most
// so many steps.
func madeOf(links []netlink.Link, index int, ifname string, steps int) bool {
	for _, l := range links {
		a := l.Attrs()
		switch {
		case a.Index == index && a.Name == ifname:
			return true
		case steps == 0:
		case a.Index == index && a.ParentIndex != 0 && a.NetNsID == -1 && madeOf(links, a.ParentIndex, ifname, steps-1):
			return true
		case index != 0 && a.MasterIndex == index && madeOf(links, a.Index, ifname, steps-1):
			return true
		}
	}
	return false
}
