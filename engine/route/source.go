package route

import (
	"fmt"
	"net/netip"
)

// Source returns the source address for our own packets to dst: the address that the kernel would
// choose, else the first address of the same family on the port that leads to dst. It is the outer
// source of a tunnel.
func (f *Follower) Source(dst netip.Addr) (netip.Addr, error) {
	dst = dst.Unmap()
	routes, err := f.kernel.handle.RouteGet(dst.AsSlice())
	if err == nil && len(routes) != 0 {
		if src, ok := netip.AddrFromSlice(routes[0].Src); ok {
			return src.Unmap(), nil
		}
	}
	snapshot := f.Snapshot()
	if hop, ok := f.neighbourOf(dst); ok {
		for _, p := range snapshot.Ports[hop.Port].Prefixes {
			if p.Addr().Is4() == dst.Is4() && !p.Addr().IsLinkLocalUnicast() {
				return p.Addr(), nil
			}
		}
	}
	if err != nil {
		return netip.Addr{}, fmt.Errorf("no source address towards %s: %w", dst, err)
	}
	return netip.Addr{}, fmt.Errorf("no source address towards %s: add an address of its family to a port that leads there", dst)
}
