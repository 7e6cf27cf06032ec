package route

import (
	"net"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sluice/pipeline/nexthop"
)

// TestVLANsBelongToPorts uses the library's values, because not every kernel that runs the tests
// has the 8021q module.
func TestVLANsBelongToPorts(t *testing.T) {
	attrs := func(index int, name string, parent int) netlink.LinkAttrs {
		a := netlink.NewLinkAttrs()
		a.Index, a.Name, a.ParentIndex, a.MTU = index, name, parent, 1500-index
		a.HardwareAddr, a.RawFlags = net.HardwareAddr{2, 0, 0, 0, 0, byte(index)}, unix.IFF_UP|unix.IFF_RUNNING
		return a
	}
	vlan := func(a netlink.LinkAttrs, id int, proto netlink.VlanProtocol) *netlink.Vlan {
		return &netlink.Vlan{LinkAttrs: a, VlanId: id, VlanProtocol: proto}
	}
	elsewhere := attrs(9, "p0.9", 2)
	elsewhere.NetNsID = 4
	ports, found := findPorts([]string{"p0", "p1.5"}, []netlink.Link{
		&netlink.Device{LinkAttrs: attrs(1, "lo", 0)},
		&netlink.Device{LinkAttrs: attrs(2, "p0", 0)},
		&netlink.Device{LinkAttrs: attrs(3, "p1", 0)},
		vlan(attrs(4, "p0.7", 2), 7, netlink.VLAN_PROTOCOL_8021Q),
		vlan(attrs(5, "p1.5", 3), 5, netlink.VLAN_PROTOCOL_8021Q),   // a port itself
		vlan(attrs(6, "p0.6", 2), 6, netlink.VLAN_PROTOCOL_8021AD),  // other tag
		vlan(attrs(7, "p0.7.8", 4), 8, netlink.VLAN_PROTOCOL_8021Q), // two tags
		vlan(attrs(8, "p1.8", 3), 8, netlink.VLAN_PROTOCOL_8021Q),   // parent is not a port
		vlan(elsewhere, 9, netlink.VLAN_PROTOCOL_8021Q),             // parent in another namespace
	})
	if want := []Station{{MAC: [6]byte{2, 0, 0, 0, 0, 2}}, {MAC: [6]byte{2, 0, 0, 0, 0, 4}, VLAN: 7}}; !slices.Equal(ports[0].Stations, want) {
		t.Errorf("stations %v, want %v", ports[0].Stations, want)
	}
	want := map[int]egress{2: {ifindex: 2}, 4: {4, 0, 7, 1496}, 5: {ifindex: 5, port: 1}}
	if len(found) != len(want) {
		t.Errorf("%v, want %v", found, want)
	}
	for index, e := range want {
		if found[index] != e {
			t.Errorf("interface %d: %+v, want %+v", index, found[index], e)
		}
	}
	if !ports[0].Up || ports[0].Ifindex != 2 || ports[1].Ifindex != 5 {
		t.Errorf("ports %+v", ports)
	}

	route, ok := routeFrom(&netlink.Route{Dst: mustCIDR("10.7.0.0/24"), LinkIndex: 4, Type: unix.RTN_UNICAST, Table: unix.RT_TABLE_MAIN, MTU: 1600}, found)
	if !ok || route.VLAN != 7 || route.MTU != 1496 || route.Kind != nexthop.Unicast {
		t.Errorf("%+v %v", route, ok)
	}
}
