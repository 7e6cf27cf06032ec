package route

import (
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// findStations sets the ports' Stations. at are the ports and their VLANs by ifindex. Interfaces
// that are down receive nothing. A macvtap interface belongs to a virtual machine, and a macvlan in
// another network namespace to that one: what they are sent is not this host's.
func findStations(ports []PortState, at map[int]egress, links []netlink.Link) {
	add := func(e egress, a *netlink.LinkAttrs) {
		if len(a.HardwareAddr) != 6 || a.RawFlags&unix.IFF_UP == 0 && a.Index != ports[e.port].Ifindex {
			return
		}
		s := Station{MAC: [6]byte(a.HardwareAddr), VLAN: e.vlan}
		if p := &ports[e.port]; !slices.Contains(p.Stations, s) {
			p.Stations = append(p.Stations, s)
		}
	}
	masters := make(map[int]egress) // by ifindex: bridges with a port in them
	for _, l := range links {
		a := l.Attrs()
		if e, ok := at[a.Index]; ok && e.vlan == 0 {
			add(e, a)
			masters[a.MasterIndex] = e
		}
	}
	for _, l := range links {
		a := l.Attrs()
		switch l.(type) {
		case *netlink.Vlan:
			if e, ok := at[a.Index]; ok && e.vlan != 0 {
				add(e, a)
			}
		case *netlink.Bridge:
			if e, ok := masters[a.Index]; ok {
				add(e, a)
			}
		case *netlink.Macvlan:
			if e, ok := at[a.ParentIndex]; ok && a.NetNsID == -1 {
				add(e, a)
			}
		}
	}
}
