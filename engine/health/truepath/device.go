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
)

// deviceName is completed by the kernel with the lowest number that is free: a second daemon may
// run beside us.
const deviceName = "sluice-probe%d"

// What the route to the targets says about packets. 1280 bytes fit on any path that carries IPv6,
// tunnels included if the wire has the usual 1500. The hop limit is one more than the inner
// packet's: translation lowers it.
const (
	pathMTU  = 1280
	pathMSS  = 1200
	pathHops = 2
)

// deviceMTU is the largest that a TAP can have: what is redirected to the device may be any frame
// of any port, and in generic mode several merged into one.
const deviceMTU = 65521

// deviceQueue is how many frames wait for the reader.
const deviceQueue = 4096

// dummy4 is the address of the device: "IPv4 dummy address" of RFC 7600 and of the IANA
// special-purpose registry.
var dummy4 = netip.MustParseAddr("192.0.0.8")

// device is the TAP, with its addresses.
type device struct {
	file *os.File
	link netlink.Link
	mac  [6]byte
	v4   family
	v6   family
}

// family is one address family at the device.
type family struct {
	own     netip.Addr   // the device's, which sockets send from
	targets netip.Prefix // routed to the device
	err     error        // why the family can't be had
}

// openDevice makes the device in the network namespace of the calling thread.
func openDevice() (*device, error) {
	fd, name, err := openTAP()
	if err != nil {
		return nil, err
	}
	d := &device{file: os.NewFile(uintptr(fd), "/dev/net/tun")}
	if err := d.configure(name); err != nil {
		return nil, errors.Join(err, d.file.Close())
	}
	return d, nil
}

// openTAP makes the interface, which lives as long as the file.
func openTAP() (fd int, name string, err error) {
	fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return -1, "", errors.New("there is no /dev/net/tun: load the kernel module tun (modprobe tun), and let the service see the device (DeviceAllow=/dev/net/tun rw)")
	case errors.Is(err, os.ErrPermission):
		return -1, "", errors.New("/dev/net/tun can't be opened: give it mode 0666, which is udev's default, and let the service have it (DeviceAllow=/dev/net/tun rw)")
	case err != nil:
		return -1, "", fmt.Errorf("opening /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(deviceName)
	if err == nil {
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		unix.Close(fd)
		if errors.Is(err, os.ErrPermission) {
			return -1, "", errors.New("making a TAP device takes CAP_NET_ADMIN: run as root, or give the service AmbientCapabilities=CAP_NET_ADMIN")
		}
		return -1, "", fmt.Errorf("making a TAP device: %w", err)
	}
	return fd, request.Name(), nil
}

// configure gives the device its settings, addresses and routes. A family that the host hasn't got
// (IPv6 turned off) is no error.
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
		{"turning ARP off", func() error { return netlink.LinkSetARPOff(link) }},
		{"the MTU", func() error { return netlink.LinkSetMTU(link, deviceMTU) }},
		{"the queue's length", func() error { return netlink.LinkSetTxQLen(link, deviceQueue) }},
		{"setting it up", func() error {
			_ = netlink.LinkSetIP6AddrGenMode(link, nl6AddrGenNone) // without IPv6 there is nothing to turn off
			return netlink.LinkSetUp(link)
		}},
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

// nl6AddrGenNone is IN6_ADDR_GEN_MODE_NONE (include/uapi/linux/if_link.h): no link-local address.
const nl6AddrGenNone = 1

// attempts is how many random blocks are tried before one that the host has no routes in.
const attempts = 20

// connect gives the device an address and targets of a family.
func (d *device) connect(kind int) family {
	routes, err := netlink.RouteListFiltered(kind, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return family{err: fmt.Errorf("listing routes: %w", err)}
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
	return family{err: errors.New("the host has routes in every network that probes could have")}
}

// randomBlock is a network of targets, and the device's own address for it.
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

// overlaps says whether the host has a route, other than a default one, that covers some of the
// block.
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

// addAddress gives the device an address that the kernel chooses as source towards the targets
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
	case errors.Is(err, os.ErrPermission) && !a.Is4(): // EACCES, whoever asks
		return errors.New("this host has IPv6 turned off (net.ipv6.conf.all.disable_ipv6)")
	}
	return fmt.Errorf("address %s: %w", a, err)
}

// addRoute routes the targets to the device, all by way of one neighbour, which is the device
// itself: the kernel's neighbour table has room for few.
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

// Which of a block's addresses are what. The device's own IPv6 address is number 1.
const (
	gateway     = 2
	firstTarget = 16
	lastTarget  = 0xffef
)

// target is address number n of a block.
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
