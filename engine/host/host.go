// Package host reads from the kernel what Sluice needs to know about this machine: interfaces,
// addresses, on-link routes and CPUs.
package host

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sluice/conf"
	"sluice/engine/cpu"
	"sluice/engine/route"
)

// Links returns the interfaces of the calling thread's network namespace.
func Links() ([]netlink.Link, error) {
	links, err := route.Dump(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("interfaces of this machine: %w", err)
	}
	return links, nil
}

// Address is an address of an interface.
type Address struct {
	Prefix netip.Prefix // the address itself and the length of its network
	Link   string       // name of the interface
}

// Addresses returns the addresses of links, in the kernel's order.
func Addresses(links []netlink.Link) (all []Address, err error) {
	names := make(map[int]string, len(links))
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	addresses, err := route.Dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("addresses of this machine: %w", err)
	}
	for _, a := range addresses {
		if a.IPNet == nil {
			continue
		}
		ip, ok := netip.AddrFromSlice(a.IP)
		name, known := names[a.LinkIndex]
		if bits, _ := a.Mask.Size(); ok && known {
			all = append(all, Address{netip.PrefixFrom(ip.Unmap(), bits), name})
		}
	}
	return all, nil
}

// Read returns what a configuration is checked against, without CheckToken. It needs no privileges.
func Read() (*conf.Host, error) {
	host := &conf.Host{CPUs: allowedCPUs(), Ports: map[string]conf.HostPort{}}
	links, err := Links()
	if err != nil {
		return nil, err
	}
	tool, err := ethtool.NewEthtool()
	if err != nil {
		return nil, fmt.Errorf("ethtool: %w", err)
	}
	defer tool.Close()
	names, down := map[int]string{}, map[string]bool{}
	for _, link := range links {
		name := link.Attrs().Name
		names[link.Attrs().Index] = name
		down[name] = link.Attrs().Flags&net.FlagUp == 0
		port := conf.HostPort{}
		// Not every driver reports its channels.
		if channels, err := tool.GetChannels(name); err == nil {
			port.Queues = int(channels.RxCount + channels.CombinedCount)
		}
		host.Ports[name] = port
	}
	addresses, err := Addresses(links)
	if err != nil {
		return nil, err
	}
	for _, a := range addresses {
		port := host.Ports[a.Link]
		port.Addresses = append(port.Addresses, a.Prefix.Addr())
		if down[a.Link] { // its routes are gone, and come back with the link
			port.OnLink = append(port.OnLink, a.Prefix.Masked())
		}
		host.Ports[a.Link] = port
	}
	return host, addOnLink(host, names)
}

// addOnLink adds the prefixes that each interface reaches without a gateway. It reads routes
// instead of addresses: an address may have been added without its route, and a route without an
// address.
func addOnLink(host *conf.Host, names map[int]string) error {
	for family, everything := range map[int]netip.Prefix{
		netlink.FAMILY_V4: netip.PrefixFrom(netip.IPv4Unspecified(), 0),
		netlink.FAMILY_V6: netip.PrefixFrom(netip.IPv6Unspecified(), 0),
	} {
		routes, err := route.Dump(func() ([]netlink.Route, error) {
			main := &netlink.Route{Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST}
			return netlink.RouteListFiltered(family, main, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE)
		})
		if err != nil {
			return fmt.Errorf("routes of this machine: %w", err)
		}
		for _, route := range routes {
			name, known := names[route.LinkIndex]
			if !known || route.Gw != nil || route.Via != nil || len(route.MultiPath) > 0 {
				continue
			}
			prefix := everything
			if route.Dst != nil {
				bits, _ := route.Dst.Mask.Size()
				address, _ := netip.AddrFromSlice(route.Dst.IP)
				prefix = netip.PrefixFrom(address.Unmap(), bits)
			}
			port := host.Ports[name]
			port.OnLink = append(port.OnLink, prefix)
			host.Ports[name] = port
		}
	}
	return nil
}

// allowedCPUs returns the CPUs that this process was started with, or nil if they are unknown. A
// running daemon has confined its threads to fewer.
func allowedCPUs() []int {
	cpus, err := cpu.Allowed()
	if err != nil {
		return nil
	}
	return cpus
}
