package netlab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Addr adds addresses with their prefix length, as "10.0.0.1/24" or "fd00::1/64", to an interface.
// IPv6 addresses are usable at once.
func (h *Host) Addr(ifname string, cidrs ...string) error {
	for _, cidr := range cidrs {
		prefix, err := netip.ParsePrefix(cidr)
		if err != nil {
			return fmt.Errorf("netlab: %s: interface %s: address %q: write it with its prefix length, like 10.0.0.1/24 or fd00::1/64: %w",
				h.name, ifname, cidr, err)
		}
		if err := h.addAddr(ifname, prefix); err != nil {
			return err
		}
	}
	return nil
}

func (h *Host) addAddr(ifname string, prefix netip.Prefix) error {
	addr := &netlink.Addr{IPNet: ipNet(prefix)}
	if prefix.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	return h.onLink(ifname, "adding address "+prefix.String(), func(nl *netlink.Handle, link netlink.Link) error {
		if err := nl.AddrAdd(link, addr); err != nil {
			return err
		}
		if link.Attrs().RawFlags&unix.IFF_LOWER_UP == 0 {
			return nil
		}
		return awaitLocal(nl, addr.IP)
	})
}

// awaitLocal waits until the host accepts packets for an address of its own. For IPv6 the kernel
// adds the route for that in a work queue some time after it has confirmed the address, even
// without duplicate address detection (addrconf_dad_start in net/ipv6/addrconf.c).
func awaitLocal(nl *netlink.Handle, addr net.IP) error {
	ok, err := poll(linkTimeout, func() (bool, error) {
		routes, err := nl.RouteGet(addr)
		if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) {
			return false, nil
		}
		return err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL, err
	})
	if err == nil && !ok {
		err = fmt.Errorf("%s is not usable after %v", addr, linkTimeout)
	}
	return err
}

// AddLo adds an address, without prefix length, to lo such that the host accepts packets for it but
// never announces it on a link, as a DR or TUN backend does with a VIP. For IPv4 this needs
// arp_ignore and arp_announce on all of the host's interfaces
// (Documentation/networking/ip-sysctl.rst); in IPv6 a host answers solicitations for the addresses
// of the asked interface only, anyway.
func (h *Host) AddLo(addr string) error {
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return fmt.Errorf("netlab: %s: address %q for lo: write it without prefix length: %w", h.name, addr, err)
	}
	if a.Is4() {
		if err := h.Sysctl("net.ipv4.conf.all.arp_ignore", "1"); err != nil {
			return err
		}
		if err := h.Sysctl("net.ipv4.conf.all.arp_announce", "2"); err != nil {
			return err
		}
	}
	return h.addAddr("lo", netip.PrefixFrom(a, a.BitLen()))
}

// Route adds or replaces the route to a network ("0.0.0.0/0" and "::/0" are the default routes)
// through a gateway, or on-link if via is the name of an interface.
func (h *Host) Route(dstCIDR, via string) error {
	return h.route("adding", dstCIDR, via, func(nl *netlink.Handle, r *netlink.Route) error { return nl.RouteReplace(r) })
}

// RouteDel removes a route that Route added with the same arguments.
func (h *Host) RouteDel(dstCIDR, via string) error {
	return h.route("removing", dstCIDR, via, func(nl *netlink.Handle, r *netlink.Route) error { return nl.RouteDel(r) })
}

func (h *Host) route(doing, dstCIDR, via string, do func(*netlink.Handle, *netlink.Route) error) error {
	err := h.nl(func(nl *netlink.Handle) error {
		dst, err := netip.ParsePrefix(dstCIDR)
		if err != nil {
			return fmt.Errorf("write the destination like 10.0.0.0/8 or ::/0: %w", err)
		}
		route := &netlink.Route{Dst: ipNet(dst.Masked())}
		if gateway, err := netip.ParseAddr(via); err == nil {
			route.Gw = gateway.AsSlice()
			return do(nl, route)
		}
		link, err := nl.LinkByName(via)
		if err != nil {
			return fmt.Errorf("%q is neither an address nor an interface here: %w", via, err)
		}
		route.LinkIndex, route.Scope = link.Attrs().Index, netlink.SCOPE_LINK
		return do(nl, route)
	})
	if err != nil {
		return fmt.Errorf("netlab: %s: %s route to %s via %s: %w", h.name, doing, dstCIDR, via, err)
	}
	return nil
}

// Neigh adds or replaces a permanent neighbour.
func (h *Host) Neigh(ifname, addr string, mac net.HardwareAddr) error {
	return h.neigh(ifname, addr, func(nl *netlink.Handle, n *netlink.Neigh) error {
		n.HardwareAddr, n.State = mac, netlink.NUD_PERMANENT
		return nl.NeighSet(n)
	})
}

// NeighDel removes a neighbour, learnt or permanent.
func (h *Host) NeighDel(ifname, addr string) error {
	return h.neigh(ifname, addr, func(nl *netlink.Handle, n *netlink.Neigh) error { return nl.NeighDel(n) })
}

func (h *Host) neigh(ifname, addr string, do func(*netlink.Handle, *netlink.Neigh) error) error {
	return h.onLink(ifname, "neighbour "+addr, func(nl *netlink.Handle, link netlink.Link) error {
		a, err := netip.ParseAddr(addr)
		if err != nil {
			return err
		}
		n := &netlink.Neigh{LinkIndex: link.Attrs().Index, Family: unix.AF_INET, IP: a.AsSlice()}
		if a.Is6() {
			n.Family = unix.AF_INET6
		}
		return do(nl, n)
	})
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
