package truepath

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sluice/engine/tun"
)

// deviceName is completed by the kernel with the lowest free number, because a second daemon may
// run on this host.
const deviceName = "sluice-probe%d"

// Settings of the route to the targets. 1280 bytes fit on any path that carries IPv6, tunnels
// included if the link has the usual 1500. The hop limit is one more than the inner packet's,
// because the translator decrements it.
const (
	pathMTU  = 1280
	pathMSS  = 1200
	pathHops = 2
)

// deviceMTU is the largest MTU of a TAP: any frame of any port may be redirected to the device, in
// generic mode several merged into one.
const deviceMTU = 65521

// deviceQueue is how many frames may wait for the reader.
const deviceQueue = 4096

// dummy4 is the address of the device: "IPv4 dummy address" of RFC 7600 and of the IANA
// special-purpose registry.
var dummy4 = netip.MustParseAddr("192.0.0.8")

// device is the TAP device with its addresses.
type device struct {
	file *os.File
	link netlink.Link
	mac  [6]byte
	v4   family
	v6   family
}

// family is one address family of the device.
type family struct {
	own     netip.Addr   // the device's, which sockets send from
	targets netip.Prefix // routed to the device
	err     error        // why the family is unavailable
}

// openDevice creates the device in the network namespace of the calling thread.
func openDevice() (*device, error) {
	fd, name, err := tun.Open(tun.Frames, deviceName)
	if err != nil {
		return nil, err
	}
	d := &device{file: os.NewFile(uintptr(fd), "/dev/net/tun")}
	if err := d.configure(name); err != nil {
		return nil, errors.Join(err, d.file.Close())
	}
	return d, nil
}

// configure sets the device's attributes, addresses and routes. A family that the host does not
// have (IPv6 turned off) is not an error.
func (d *device) configure(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	d.link = link
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"turn ARP off", func() error { return netlink.LinkSetARPOff(link) }},
		{"the MTU", func() error { return netlink.LinkSetMTU(link, deviceMTU) }},
		{"set the queue length", func() error { return netlink.LinkSetTxQLen(link, deviceQueue) }},
		{"set up", func() error { return tun.SetUp(link) }},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("interface %s: %s: %w", name, step.what, err)
		}
	}
	if link, err = netlink.LinkByName(name); err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	if len(link.Attrs().HardwareAddr) != len(d.mac) {
		return fmt.Errorf("interface %s has no MAC address", name)
	}
	d.mac = [6]byte(link.Attrs().HardwareAddr)
	d.link = link
	d.v4, d.v6 = d.connect(netlink.FAMILY_V4), d.connect(netlink.FAMILY_V6)
	if d.v4.err != nil && d.v6.err != nil {
		return fmt.Errorf("interface %s: %w", name, errors.Join(d.v4.err, d.v6.err))
	}
	return nil
}

// attempts is how many random blocks are tried to find one without routes of the host.
const attempts = 20

// connect gives the device an address and targets of a family.
func (d *device) connect(kind int) family {
	routes, err := netlink.RouteListFiltered(kind, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return family{err: fmt.Errorf("list routes: %w", err)}
	}
	for range attempts {
		f := randomBlock(kind)
		if overlaps(f.targets, routes) {
			continue
		}
		if f.err = d.addAddress(f.own); f.err == nil {
			f.err = d.addRoute(f)
		}
		return f
	}
	return family{err: errors.New("the host has routes in all networks that probes could use")}
}

// randomBlock returns a random network of targets and the device's address for it.
func randomBlock(kind int) family {
	if kind == netlink.FAMILY_V4 {
		block := netip.AddrFrom4([4]byte{241 + byte(rand.N(14)), byte(rand.N(256)), 0, 0})
		return family{own: dummy4, targets: netip.PrefixFrom(block, 16)}
	}
	var a [16]byte
	a[0] = 0xfd
	for i := 1; i < 8; i++ {
		a[i] = byte(rand.N(256))
	}
	block := netip.PrefixFrom(netip.AddrFrom16(a), 64)
	a[15] = 1
	return family{own: netip.AddrFrom16(a), targets: block}
}

// overlaps reports whether the host has a route, other than a default route, that covers a part of
// the block.
func overlaps(block netip.Prefix, routes []netlink.Route) bool {
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		ones, bits := r.Dst.Mask.Size()
		addr, ok := netip.AddrFromSlice(r.Dst.IP)
		if !ok || ones == 0 {
			continue
		}
		if bits == 32 {
			addr = addr.Unmap()
		}
		if netip.PrefixFrom(addr, ones).Overlaps(block) && (addr.Is4() || ones > 8) {
			return true
		}
	}
	return false
}

// addAddress adds an address to the device. The kernel chooses it as the source towards the targets
// only.
func (d *device) addAddress(a netip.Addr) error {
	err := netlink.AddrAdd(d.link, &netlink.Addr{
		IPNet: ipNet(netip.PrefixFrom(a, a.BitLen())),
		Flags: unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE,
		Scope: map[bool]int{true: unix.RT_SCOPE_LINK, false: unix.RT_SCOPE_UNIVERSE}[a.Is4()],
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrPermission) && !a.Is4(): // EACCES, also for root
		return errors.New("this host has IPv6 turned off (net.ipv6.conf.all.disable_ipv6)")
	}
	return fmt.Errorf("address %s: %w", a, err)
}

// addRoute routes the targets to the device through one neighbour, the device itself: entries per
// target would fill the kernel's neighbour table.
func (d *device) addRoute(f family) error {
	err := netlink.RouteAdd(&netlink.Route{
		LinkIndex: d.link.Attrs().Index, Dst: ipNet(f.targets), Src: f.own.AsSlice(),
		Gw: target(f.targets, gateway).AsSlice(), Flags: unix.RTNH_F_ONLINK,
		MTU: pathMTU, AdvMSS: pathMSS, Hoplimit: pathHops,
	})
	if err != nil {
		return fmt.Errorf("route to %s: %w", f.targets, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Assignment of the addresses of a block. The device's own IPv6 address is number 1.
const (
	gateway     = 2
	firstTarget = 16
	lastTarget  = 0xffef
)

// target returns address number n of a block.
func target(block netip.Prefix, n uint16) netip.Addr {
	a := block.Addr().AsSlice()
	a[len(a)-2], a[len(a)-1] = byte(n>>8), byte(n)
	out, _ := netip.AddrFromSlice(a)
	return out
}

// number is the inverse of target.
func number(a netip.Addr) uint16 {
	b := a.As16()
	return uint16(b[14])<<8 | uint16(b[15])
}
