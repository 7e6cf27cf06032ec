package main

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sluice/conf"
	"sluice/engine/api"
	"sluice/engine/cpu"
	"sluice/engine/route"
)

// thisHost asks the kernel for all that conf wants to know about this machine. It needs no rights.
func thisHost() (*conf.Host, error) {
	host := &conf.Host{CPUs: allowedCPUs(), Ports: map[string]conf.HostPort{}, CheckToken: checkToken}
	links, err := route.Dump(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("interfaces of this machine: %w", err)
	}
	tool, err := ethtool.NewEthtool()
	if err != nil {
		return nil, fmt.Errorf("ethtool: %w", err)
	}
	defer tool.Close()
	names, down := map[int]string{}, map[int]bool{}
	for _, link := range links {
		name := link.Attrs().Name
		names[link.Attrs().Index] = name
		down[link.Attrs().Index] = link.Attrs().Flags&net.FlagUp == 0
		port := conf.HostPort{}
		if channels, err := tool.GetChannels(name); err == nil { // else unknown: not every driver tells
			port.Queues = int(channels.RxCount + channels.CombinedCount)
		}
		host.Ports[name] = port
	}
	addresses, err := route.Dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("addresses of this machine: %w", err)
	}
	for _, address := range addresses {
		if prefix, ok := prefixOf(&address); ok {
			port := host.Ports[names[address.LinkIndex]]
			port.Addresses = append(port.Addresses, prefix.Addr())
			if down[address.LinkIndex] { // its routes are gone, and come back with the link
				port.OnLink = append(port.OnLink, prefix.Masked())
			}
			host.Ports[names[address.LinkIndex]] = port
		}
	}
	return host, addOnLink(host, names)
}

// addOnLink adds the prefixes that each interface reaches without a gateway. These are the routes
// and not the addresses: an address may have been added without its route, and a route without an
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

// prefixOf is an interface address with its length.
func prefixOf(address *netlink.Addr) (netip.Prefix, bool) {
	if address.IPNet == nil {
		return netip.Prefix{}, false
	}
	ip, ok := netip.AddrFromSlice(address.IP)
	bits, _ := address.Mask.Size()
	return netip.PrefixFrom(ip.Unmap(), bits), ok
}

// allowedCPUs is the CPUs that this process was started with; nil if the kernel did not say. A
// running daemon has confined its threads to fewer.
func allowedCPUs() []int {
	cpus, err := cpu.Allowed()
	if err != nil {
		return nil
	}
	return cpus
}

func checkToken(path string) error {
	_, err := api.ReadToken(path)
	return err
}
