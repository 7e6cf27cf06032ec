package tokernel

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"sluice/engine/platform"
	"sluice/engine/tun"
)

// deviceName is completed by the kernel with the lowest free number, because a second daemon may
// run on this host.
const deviceName = "sluice-kernel%d"

// device is a TUN device, to which no route leads.
type device struct {
	fd   int
	name string
}

// OpenDevice creates the device in the network namespace of the calling thread, and sets it up. It
// needs CAP_NET_ADMIN; errors tell what is missing.
func OpenDevice() (platform.Device, error) {
	fd, name, err := tun.Open(tun.Packets, deviceName)
	if err != nil {
		return nil, err
	}
	d := &device{fd, name}
	if err := d.configure(); err != nil {
		return nil, errors.Join(fmt.Errorf("interface %s: %w", name, err), d.Close())
	}
	return d, nil
}

// configure makes the kernel accept packets from the device.
func (d *device) configure() error {
	link, err := netlink.LinkByName(d.name)
	if err != nil {
		return err
	}
	if err := tun.SetUp(link); err != nil {
		return err
	}
	if err := filterLoosely(link.Attrs().Index); err != nil {
		return fmt.Errorf("rp_filter: %w", err)
	}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: dummy4, Flags: unix.IFA_F_NOPREFIXROUTE, Scope: unix.RT_SCOPE_LINK}); err != nil {
		return fmt.Errorf("address %s: %w", dummy4, err)
	}
	return nil
}

// dummy4 is the address of the device: "IPv4 dummy address" of RFC 7600 and of the IANA
// special-purpose registry. From a device without an IPv4 address even a loose rp_filter lets
// nothing in.
var dummy4 = &net.IPNet{IP: net.IPv4(192, 0, 0, 8).To4(), Mask: net.CIDRMask(32, 32)}

// From the kernel's headers: IFLA_INET_CONF (include/uapi/linux/if_link.h), IPV4_DEVCONF_RP_FILTER
// (include/uapi/linux/ip.h).
const (
	inetConf        = 1
	devconfRPFilter = 8
	rpFilterLoose   = 2
)

// filterLoosely sets the device's rp_filter: no route leads to the device, so that a strict one
// would drop all that comes from it. A host's setting of 1 for all devices gives way to the 2 of
// one. It goes over netlink because the daemon's unit may not write below /proc/sys.
func filterLoosely(index int) error {
	request := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	message := nl.NewIfInfomsg(unix.AF_UNSPEC)
	message.Index = int32(index)
	request.AddData(message)
	families := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	families.AddRtAttr(unix.AF_INET, nil).AddRtAttr(inetConf, nil).AddRtAttr(devconfRPFilter, nl.Uint32Attr(rpFilterLoose))
	request.AddData(families)
	_, err := request.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// Name implements platform.Device.
func (d *device) Name() string { return d.name }

// Write implements platform.Device. The kernel routes the packet before Write returns.
func (d *device) Write(packet []byte) (int, error) {
	for {
		if n, err := unix.Write(d.fd, packet); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// Close implements platform.Device: it removes the interface.
func (d *device) Close() error { return unix.Close(d.fd) }
