package route

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sluice/pipeline/nexthop"
)

// kernel is the kernel's lists, converted. It belongs to the goroutine of follow.
type kernel struct {
	handle *netlink.Handle
	names  []string // of the ports

	ports      []PortState
	locals     []netip.Addr
	broadcasts []netip.Addr
	egress     map[int]egress // by ifindex: the ports and their VLANs
	routes     []nexthop.Route
	hosts      []netip.Addr                        // see Snapshot
	ranges     []netip.Prefix                      // likewise
	neighbours []nexthop.Neighbour                 // usable ones, ascending
	states     map[nexthop.Hop]int                 // NUD state of all, usable or not; never written
	latest     atomic.Pointer[map[nexthop.Hop]int] // states, for other goroutines
}

// egress is an interface that leads to one of our ports.
type egress struct {
	ifindex int
	port    uint8
	vlan    uint16
	mtu     uint16
}

// usable are the states in which the kernel itself sends to the MAC address (NUD_VALID,
// include/net/neighbour.h).
const usable = netlink.NUD_PERMANENT | netlink.NUD_NOARP | netlink.NUD_REACHABLE | netlink.NUD_PROBE | netlink.NUD_STALE | netlink.NUD_DELAY

// readAll reads every list and reports whether anything differs from the last reading.
func (k *kernel) readAll() (changed bool, err error) {
	links, err := whole(k.handle.LinkList)
	if err != nil {
		return false, fmt.Errorf("list interfaces: %w", err)
	}
	ports, egress := findPorts(k.names, links)
	locals, broadcasts, err := k.readAddrs(ports, egress)
	if err != nil {
		return false, fmt.Errorf("list addresses: %w", err)
	}
	routes, err := k.readRoutes(egress)
	if err != nil {
		return false, fmt.Errorf("list routes: %w", err)
	}
	changed = !slices.EqualFunc(ports, k.ports, equalPorts) || !slices.Equal(locals, k.locals) ||
		!slices.Equal(broadcasts, k.broadcasts) ||
		!slices.EqualFunc(routes, k.routes, equalRoutes)
	k.ports, k.locals, k.broadcasts, k.egress, k.routes = ports, locals, broadcasts, egress, routes
	others, err := k.readNeighbours()
	return changed || others, err
}

// findPorts returns the ports among the interfaces, and the VLANs on them.
func findPorts(names []string, links []netlink.Link) ([]PortState, map[int]egress) {
	ports := make([]PortState, len(names))
	found := make(map[int]egress)
	for i, name := range names {
		ports[i].Name = name
		at := slices.IndexFunc(links, func(l netlink.Link) bool { return l.Attrs().Name == name })
		if at < 0 {
			continue
		}
		p, a := &ports[i], links[at].Attrs()
		p.Exists, p.Ifindex, p.MTU = true, a.Index, clampMTU(a.MTU)
		p.Up = a.RawFlags&unix.IFF_UP != 0 && a.RawFlags&unix.IFF_RUNNING != 0
		if len(a.HardwareAddr) == len(p.MAC) {
			p.MAC = [6]byte(a.HardwareAddr)
		}
		found[a.Index] = egress{ifindex: a.Index, port: uint8(i)}
	}
	for _, l := range links {
		vlan, ok := l.(*netlink.Vlan)
		if !ok || vlan.VlanProtocol != netlink.VLAN_PROTOCOL_8021Q || vlan.VlanId == 0 || vlan.NetNsID != -1 {
			continue
		}
		parent, ok := found[vlan.ParentIndex]
		if _, isPort := found[vlan.Index]; ok && !isPort && parent.vlan == 0 {
			found[vlan.Index] = egress{vlan.Index, parent.port, uint16(vlan.VlanId), clampMTU(vlan.MTU)}
		}
	}
	findStations(ports, found, links)
	return ports, found
}

// readAddrs returns all addresses of this machine and the broadcast addresses of its subnets. It
// sets the addresses of the ports.
func (k *kernel) readAddrs(ports []PortState, egress map[int]egress) (locals, broadcasts []netip.Addr, err error) {
	addrs, err := whole(func() ([]netlink.Addr, error) { return k.handle.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, nil, err
	}
	for _, a := range addrs {
		prefix, ok := prefixFrom(a.IPNet)
		if !ok {
			continue
		}
		locals, broadcasts = append(locals, prefix.Addr()), append(broadcasts, BroadcastsOf(prefix)...)
		if b, ok := netip.AddrFromSlice(a.Broadcast.To4()); ok {
			broadcasts = append(broadcasts, b)
		}
		if e, ok := egress[a.LinkIndex]; ok {
			ports[e.port].Prefixes = append(ports[e.port].Prefixes, prefix)
		}
	}
	for i := range ports {
		slices.SortFunc(ports[i].Prefixes, netip.Prefix.Compare)
	}
	slices.SortFunc(locals, netip.Addr.Compare)
	slices.SortFunc(broadcasts, netip.Addr.Compare)
	return slices.Compact(locals), slices.Compact(broadcasts), nil
}

// BroadcastsOf returns the broadcast address of an IPv4 subnet of more than two addresses, as the
// kernel has it, whether it is configured or not (fib_add_ifaddr).
func BroadcastsOf(p netip.Prefix) []netip.Addr {
	if !p.Addr().Is4() || p.Bits() > 30 {
		return nil
	}
	b := p.Addr().As4()
	last := binary.BigEndian.Uint32(b[:]) | math.MaxUint32>>p.Bits()
	return []netip.Addr{netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, last)))}
}

// readRoutes returns the routes of the local table, then those of the main table, each in the
// kernel's order, without those that can never match. It sets hosts and ranges.
func (k *kernel) readRoutes(egress map[int]egress) ([]nexthop.Route, error) {
	lists, err := whole(func() ([2][]nexthop.Route, error) {
		var local, main []nexthop.Route
		err := k.handle.RouteListFilteredIter(netlink.FAMILY_ALL, &netlink.Route{}, netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
			if route, ok := routeFrom(&r, egress); ok && r.Table == unix.RT_TABLE_LOCAL {
				local = append(local, route)
			} else if ok && r.Table == unix.RT_TABLE_MAIN {
				main = append(main, route)
			}
			return true
		})
		return [2][]nexthop.Route{local, main}, err
	})
	if err != nil {
		return nil, err
	}
	local, main := lists[0], lists[1]
	// The kernel looks in the local table first, and in the main table only if nothing matched: a
	// wide local prefix (127.0.0.0/8, or an AnyIP range) hides all longer prefixes in the main
	// table.
	k.hosts, k.ranges = nil, nil
	for _, wide := range local {
		if !wide.Prefix.IsSingleIP() {
			k.ranges = append(k.ranges, wide.Prefix)
			main = slices.DeleteFunc(main, func(r nexthop.Route) bool {
				return r.Prefix.Bits() >= wide.Prefix.Bits() && wide.Prefix.Contains(r.Prefix.Addr())
			})
		}
	}
	all := append(local, main...)
	for i := range all {
		if p := all[i].Prefix; p.IsSingleIP() {
			k.hosts = append(k.hosts, p.Addr())
		}
	}
	slices.SortFunc(k.hosts, netip.Addr.Compare)
	return all, nil
}

// routeFrom converts one route; ok is false if it does not concern forwarded packets.
func routeFrom(r *netlink.Route, egress map[int]egress) (route nexthop.Route, ok bool) {
	prefix, ok := prefixFrom(r.Dst)
	if !ok || r.Tos != 0 || r.Flags&unix.RTNH_F_DEAD != 0 || prefix.Addr().IsLinkLocalUnicast() && prefix.Addr().Is6() {
		return nexthop.Route{}, false
	}
	route = nexthop.Route{Prefix: prefix.Masked(), Metric: uint32(r.Priority)}
	if r.Table == unix.RT_TABLE_LOCAL {
		route.Metric = 0
	}
	if r.Type != unix.RTN_UNICAST {
		route.Kind = nexthop.Blackhole
		return route, true
	}
	if len(r.MultiPath) == 0 {
		leg := legFrom(r.LinkIndex, r.Gw, r.Via, r.Encap, r.MTU, egress)
		route.Via, route.Port, route.VLAN, route.MTU, route.Kind = leg.Via, leg.Port, leg.VLAN, leg.MTU, leg.Kind
		return route, true
	}
	var legs []nexthop.Leg
	for _, hop := range r.MultiPath {
		if hop.Flags&unix.RTNH_F_DEAD == 0 {
			leg := legFrom(hop.LinkIndex, hop.Gw, hop.Via, hop.Encap, r.MTU, egress)
			legs = append(legs, slices.Repeat([]nexthop.Leg{leg}, hop.Hops+1)...)
		}
	}
	if len(legs) == 0 {
		return nexthop.Route{}, false
	}
	first := legs[0]
	route.Via, route.Port, route.VLAN, route.MTU, route.Kind = first.Via, first.Port, first.VLAN, first.MTU, first.Kind
	route.Also = legs[1:]
	return route, true
}

// legFrom converts one next hop. Next hops that need an encapsulation (MPLS, SEG6) are not
// supported.
func legFrom(ifindex int, gateway net.IP, via netlink.Destination, encap netlink.Encap, mtu int, egress map[int]egress) nexthop.Leg {
	e, ok := egress[ifindex]
	if !ok || encap != nil {
		return nexthop.Leg{Kind: nexthop.Foreign}
	}
	leg := nexthop.Leg{Port: e.port, VLAN: e.vlan, MTU: e.mtu}
	if mtu != 0 && (leg.MTU == 0 || clampMTU(mtu) < leg.MTU) {
		leg.MTU = clampMTU(mtu)
	}
	if v, ok := via.(*netlink.Via); ok {
		gateway = v.Addr
	}
	if addr, ok := netip.AddrFromSlice(gateway); ok {
		leg.Via = addr.Unmap()
	}
	return leg
}

// readNeighbours reads the neighbours at our ports and reports whether the usable ones differ from
// the last reading.
func (k *kernel) readNeighbours() (changed bool, err error) {
	var list []nexthop.Neighbour
	states := make(map[nexthop.Hop]int)
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		neighs, err := whole(func() ([]netlink.Neigh, error) { return k.handle.NeighList(0, family) })
		if err != nil {
			return false, fmt.Errorf("list neighbours: %w", err)
		}
		for _, n := range neighs {
			e, ours := k.egress[n.LinkIndex]
			addr, ok := netip.AddrFromSlice(n.IP)
			if !ok || !ours || addr.IsMulticast() {
				continue
			}
			hop := nexthop.Hop{Addr: addr.Unmap(), Port: e.port, VLAN: e.vlan}
			states[hop] = n.State
			if n.State&usable != 0 && len(n.HardwareAddr) == 6 {
				list = append(list, nexthop.Neighbour{Addr: hop.Addr, Port: hop.Port, VLAN: hop.VLAN, MAC: [6]byte(n.HardwareAddr)})
			}
		}
	}
	slices.SortFunc(list, func(a, b nexthop.Neighbour) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Port, b.Port), cmp.Compare(a.VLAN, b.VLAN))
	})
	changed = !slices.Equal(list, k.neighbours)
	k.neighbours, k.states = list, states
	k.latest.Store(&states)
	return changed, nil
}

// snapshot builds the next-hop table from the lists.
func (k *kernel) snapshot() *Snapshot {
	infos := make([]nexthop.PortInfo, len(k.ports))
	for i, p := range k.ports {
		infos[i] = nexthop.PortInfo{MAC: p.MAC, MTU: p.MTU, Up: p.Up, Name: p.Name}
	}
	return &Snapshot{
		Table: nexthop.Build(infos, k.routes, k.neighbours),
		Ports: k.ports, Locals: k.locals, Broadcasts: k.broadcasts, Hosts: k.hosts, Ranges: k.ranges,
	}
}

// dumpAttempts is how often a list that changes during the reading is read.
const dumpAttempts = 5

// Dump reads a list of the kernel, and reads it again when the kernel reports that it changed
// during the reading.
func Dump[T any](read func() (T, error)) (list T, err error) {
	for range dumpAttempts {
		if list, err = read(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return list, err
}

// whole is Dump for lists with notifications. A change that interrupts the reading is notified and
// causes another one, so an inconsistent list is accepted.
func whole[T any](read func() (T, error)) (T, error) {
	list, err := Dump(read)
	if errors.Is(err, netlink.ErrDumpInterrupted) {
		err = nil
	}
	return list, err
}

func prefixFrom(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	ones, bits := n.Mask.Size()
	if bits == 32 {
		addr = addr.Unmap() // the library returns the default route's 0.0.0.0 in 16 bytes
	}
	return netip.PrefixFrom(addr, ones), true
}

// clampMTU limits an MTU to what a frame's length can express; the loopback interface has 65536.
func clampMTU(mtu int) uint16 { return uint16(min(max(mtu, 0), math.MaxUint16)) }

func equalPorts(a, b PortState) bool {
	return a.Name == b.Name && a.Exists == b.Exists && a.Ifindex == b.Ifindex && a.MAC == b.MAC && a.MTU == b.MTU &&
		a.Up == b.Up && slices.Equal(a.Prefixes, b.Prefixes) && slices.Equal(a.Stations, b.Stations)
}

func equalRoutes(a, b nexthop.Route) bool {
	return a.Prefix == b.Prefix && a.Via == b.Via && a.Port == b.Port && a.VLAN == b.VLAN && a.MTU == b.MTU &&
		a.Kind == b.Kind && a.Metric == b.Metric && slices.Equal(a.Also, b.Also)
}
