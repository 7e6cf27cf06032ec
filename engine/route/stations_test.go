package route

import (
	"net"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestStations: frames to this host are addressed to a port, and to macvlan interfaces and the
// bridge on it that are up and of this host.
func TestStations(t *testing.T) {
	attrs := func(index int, name string, parent int) netlink.LinkAttrs {
		a := netlink.NewLinkAttrs()
		a.Index, a.Name, a.ParentIndex = index, name, parent
		a.HardwareAddr, a.RawFlags = net.HardwareAddr{2, 0, 0, 0, 0, byte(index)}, unix.IFF_UP
		return a
	}
	down, foreign, member := attrs(7, "down", 2), attrs(8, "foreign", 2), attrs(3, "p1", 0)
	down.RawFlags, foreign.NetNsID, member.MasterIndex = 0, 4, 9
	vlan := attrs(4, "p0.7", 2)
	vlan.HardwareAddr = net.HardwareAddr{2, 0, 0, 0, 0, 2} // its parent's, as usual
	same := attrs(13, "same", 2)
	same.HardwareAddr = vlan.HardwareAddr
	odd := attrs(14, "p2", 0)
	odd.HardwareAddr, odd.RawFlags = net.HardwareAddr{1, 2, 3, 4}, 0
	ports, _ := findPorts([]string{"p0", "p1", "p2"}, []netlink.Link{
		&netlink.Macvlan{LinkAttrs: attrs(6, "vrrp.51", 2)},
		&netlink.Device{LinkAttrs: attrs(2, "p0", 0)},
		&netlink.Device{LinkAttrs: member},
		&netlink.Device{LinkAttrs: odd},
		&netlink.Vlan{LinkAttrs: vlan, VlanId: 7, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q},
		&netlink.Macvlan{LinkAttrs: attrs(5, "vrrp.52", 4)},
		&netlink.Macvlan{LinkAttrs: down},
		&netlink.Macvlan{LinkAttrs: foreign},
		&netlink.Macvlan{LinkAttrs: same},
		&netlink.Bridge{LinkAttrs: attrs(9, "br0", 0)},
		&netlink.Bridge{LinkAttrs: attrs(10, "br1", 0)},
		&netlink.Macvtap{Macvlan: netlink.Macvlan{LinkAttrs: attrs(11, "vm", 2)}},
		&netlink.Macvlan{LinkAttrs: attrs(12, "elsewhere", 10)},
	})
	station := func(n byte, vlan uint16) Station { return Station{MAC: [6]byte{2, 0, 0, 0, 0, n}, VLAN: vlan} }
	for i, want := range [][]Station{{station(2, 0), station(6, 0), station(2, 7), station(5, 7)}, {station(3, 0), station(9, 0)}, nil} {
		if !slices.Equal(ports[i].Stations, want) {
			t.Errorf("%s: %v, want %v", ports[i].Name, ports[i].Stations, want)
		}
	}
}

// TestStationsAreFollowed: a macvlan interface that comes, goes down and goes is followed.
func TestStationsAreFollowed(t *testing.T) {
	l := newLab(t)
	f := l.start(Config{})
	virtual := Station{MAC: [6]byte{0, 0, 0x5e, 0, 1, 51}}
	has := func(want bool) {
		t.Helper()
		await(t, f, "the macvlan's address", func(s *Snapshot) bool { return slices.Contains(s.Ports[0].Stations, virtual) == want })
	}
	has(false)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex, attrs.HardwareAddr = "vrrp.51", l.index("p0"), virtual.MAC[:]
	l.must(l.box.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_PRIVATE}))
	child := link(t, l.box, "vrrp.51")
	l.must(l.box.LinkSetUp(child))
	has(true)
	if s := f.Snapshot().Ports[0]; s.Stations[0].MAC != s.MAC {
		t.Errorf("stations %v of a port with %v", s.Stations, s.MAC)
	}
	l.must(l.box.LinkSetDown(child))
	has(false)
	l.must(l.box.LinkSetUp(child))
	has(true)
	l.must(l.box.LinkDel(child))
	has(false)
}
