package netlab

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// linkTimeout is how long a link may take to be operational once both its ends are up.
const linkTimeout = 10 * time.Second

// LinkOptions configures a Link; the zero value is a plain wire.
type LinkOptions struct {
	Queues       int  // RX and TX queues at each end; 0 means 1
	MTU          int  // bytes at each end; 0 means 1500
	KeepOffloads bool // keep checksum, segmentation and VLAN offloads (see the package comment)
	PeerXDP      bool // PassXDP on end a, so that XDP programs may redirect into end b
}

// Link joins interface aIf of host a and bIf of host b by a veth pair and returns when both ends
// are operational. The nth link of a lab has the MAC addresses 02:4e:4c:HI:LO:0a at end a and
// ...:0b at end b, HI:LO being n.
func (l *Lab) Link(a *Host, aIf string, b *Host, bIf string, o LinkOptions) error {
	if err := l.link(a, aIf, b, bIf, o); err != nil {
		return fmt.Errorf("netlab: link %s/%s - %s/%s: %w", a.name, aIf, b.name, bIf, err)
	}
	return nil
}

func (l *Lab) link(a *Host, aIf string, b *Host, bIf string, o LinkOptions) error {
	if a.lab != l || b.lab != l {
		return errors.New("both hosts must be of this lab")
	}
	if err := l.makeVeth(a, aIf, b, bIf, o); err != nil {
		return err
	}
	ends := []struct {
		h    *Host
		name string
	}{{a, aIf}, {b, bIf}}
	for _, end := range ends {
		if !o.KeepOffloads {
			if err := end.h.offloadsOff(end.name); err != nil {
				return err
			}
		}
		if err := end.h.LinkUp(end.name); err != nil {
			return err
		}
	}
	for _, end := range ends {
		if err := end.h.LinkUp(end.name); err != nil { // the first end has its carrier only now
			return err
		}
	}
	if o.PeerXDP {
		return a.PassXDP(aIf)
	}
	return nil
}

func (l *Lab) makeVeth(a *Host, aIf string, b *Host, bIf string, o LinkOptions) error {
	queues := max(o.Queues, 1)
	mtu := o.MTU
	if mtu == 0 {
		mtu = 1500
	}
	l.mu.Lock()
	l.links++
	number := l.links
	l.mu.Unlock()
	mac := func(end byte) net.HardwareAddr {
		return net.HardwareAddr{0x02, 0x4e, 0x4c, byte(number >> 8), byte(number), end}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = aIf, mtu, mac(0x0a)
	attrs.NumTxQueues, attrs.NumRxQueues = queues, queues
	pair := netlink.NewVeth(attrs)
	pair.PeerName, pair.PeerMTU, pair.PeerHardwareAddr = bIf, uint32(mtu), mac(0x0b)
	pair.PeerNumTxQueues, pair.PeerNumRxQueues = uint32(queues), uint32(queues)

	letGoB, err := b.hold()
	if err != nil {
		return err
	}
	defer letGoB()
	pair.PeerNamespace = netlink.NsFd(b.ns)
	return a.nl(func(nl *netlink.Handle) error { return nl.LinkAdd(pair) })
}

// nl calls f with the host's netlink handle, which must not be kept.
func (h *Host) nl(f func(nl *netlink.Handle) error) error {
	letGo, err := h.hold()
	if err != nil {
		return err
	}
	defer letGo()
	return f(h.netlink)
}

// onLink calls f for an interface of the host. An error names the operation and the interface.
func (h *Host) onLink(ifname, doing string, f func(nl *netlink.Handle, link netlink.Link) error) error {
	err := h.nl(func(nl *netlink.Handle) error {
		link, err := nl.LinkByName(ifname)
		if err != nil {
			return err
		}
		return f(nl, link)
	})
	if err != nil {
		return fmt.Errorf("netlab: %s: interface %s: %s: %w", h.name, ifname, doing, err)
	}
	return nil
}

// LinkUp sets an interface administratively up. If it then has a carrier, which a veth has when its
// peer is up, LinkUp returns when frames flow and the interface's addresses, which it keeps while
// it is down, are usable again. Routes other than those of its own addresses are gone after a
// LinkDown.
func (h *Host) LinkUp(ifname string) error {
	return h.onLink(ifname, "setting it up", func(nl *netlink.Handle, link netlink.Link) error {
		if err := nl.LinkSetUp(link); err != nil {
			return err
		}
		link, err := nl.LinkByIndex(link.Attrs().Index)
		if err != nil || link.Attrs().RawFlags&unix.IFF_LOWER_UP == 0 {
			return err
		}
		return awaitOperational(nl, link)
	})
}

// LinkDown sets an interface administratively down; the peer of a veth loses its carrier.
func (h *Host) LinkDown(ifname string) error {
	return h.onLink(ifname, "setting it down", func(nl *netlink.Handle, link netlink.Link) error {
		return nl.LinkSetDown(link)
	})
}

// LinkDel removes an interface, and with a veth its peer.
func (h *Host) LinkDel(ifname string) error {
	return h.onLink(ifname, "removing it", func(nl *netlink.Handle, link netlink.Link) error {
		return nl.LinkDel(link)
	})
}

// MAC returns the Ethernet address of an interface.
func (h *Host) MAC(ifname string) (mac net.HardwareAddr, err error) {
	err = h.onLink(ifname, "reading its address", func(_ *netlink.Handle, link netlink.Link) error {
		mac = link.Attrs().HardwareAddr
		return nil
	})
	return mac, err
}

// awaitOperational waits until the kernel has processed the carrier of an interface. Before that a
// bridge does not forward for a port, no queue sends, and IPv6 addresses wait.
func awaitOperational(nl *netlink.Handle, link netlink.Link) error {
	ok, err := poll(linkTimeout, func() (bool, error) {
		now, err := nl.LinkByIndex(link.Attrs().Index)
		if err != nil {
			return false, err
		}
		state := now.Attrs().OperState
		return state == netlink.OperUp || state == netlink.OperUnknown, nil // unknown: lo
	})
	if err == nil && !ok {
		err = fmt.Errorf("it is not operational after %v", linkTimeout)
	}
	if err != nil {
		return err
	}
	addrs, err := nl.AddrList(link, netlink.FAMILY_ALL)
	for errors.Is(err, netlink.ErrDumpInterrupted) { // an address came or went meanwhile
		addrs, err = nl.AddrList(link, netlink.FAMILY_ALL)
	}
	if err != nil {
		return err
	}
	for _, addr := range addrs {
		if err := awaitLocal(nl, addr.IP); err != nil {
			return err
		}
	}
	return nil
}

// isOffload reports whether a feature is an offload, by their names in net/ethtool/common.c, with
// which a device takes over work on frames that a veth pair then leaves undone.
func isOffload(feature string) bool {
	for _, start := range []string{"tx-checksum-", "tx-gso-", "tx-vlan-", "rx-vlan-", "rx-gro", "rx-lro", "rx-udp-gro"} {
		if strings.HasPrefix(feature, start) {
			return true
		}
	}
	return strings.HasSuffix(feature, "-segmentation")
}

// offloadsOff turns off what can be turned off. It looks afterwards whether it is, because the
// kernel takes such a request as a wish.
func (h *Host) offloadsOff(ifname string) error {
	return h.Do(func() error {
		// The device is looked up in the namespace in which this socket was made.
		tool, err := ethtool.NewEthtool()
		if err != nil {
			return fmt.Errorf("netlab: %s: ethtool socket: %w", h.name, err)
		}
		defer tool.Close()
		on, err := offloadsOn(tool, ifname)
		if err == nil && len(on) > 0 {
			off := map[string]bool{}
			for _, feature := range on {
				off[feature] = false
			}
			if err = tool.Change(ifname, off); err == nil {
				on, err = offloadsOn(tool, ifname)
			}
		}
		if err == nil && len(on) > 0 {
			err = fmt.Errorf("the kernel keeps %v on", on)
		}
		if err != nil {
			return fmt.Errorf("netlab: %s: interface %s: turning offloads off: %w", h.name, ifname, err)
		}
		return nil
	})
}

func offloadsOn(tool *ethtool.Ethtool, ifname string) ([]string, error) {
	features, err := tool.FeaturesWithState(ifname)
	var on []string
	for name, state := range features {
		if state.Active && state.Available && !state.NeverChanged && isOffload(name) {
			on = append(on, name)
		}
	}
	return on, err
}
