package xsk

import (
	"errors"
	"fmt"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Queues returns the numbers of RX and of TX queues of an interface of the calling thread's network
// namespace. Queues are numbered from 0.
//
// It asks the driver (ethtool -l). If the driver does not answer, it returns the number of queues
// that the device was created with. It does not read sysfs, which shows the interfaces of the
// namespace that it was mounted in instead of the caller's.
func Queues(ifname string) (rx, tx int, err error) {
	if rx, tx := channels(ifname); rx > 0 && tx > 0 {
		return rx, tx, nil
	}
	link, err := netlink.LinkByName(ifname)
	if err != nil {
		return 0, 0, fmt.Errorf("queues of %s: %w", ifname, err)
	}
	return link.Attrs().NumRxQueues, link.Attrs().NumTxQueues, nil
}

// channels returns the numbers that the driver reports, or 0 if it reports none.
func channels(ifname string) (rx, tx int) {
	tool, err := ethtool.NewEthtool()
	if err != nil {
		return 0, 0
	}
	defer tool.Close()
	c, err := tool.GetChannels(ifname)
	if err != nil {
		return 0, 0
	}
	return int(c.RxCount + c.CombinedCount), int(c.TxCount + c.CombinedCount)
}

// checkLink returns an error if a socket on the interface would be useless although the kernel may
// accept it.
func checkLink(cfg Config) error {
	link, err := netlink.LinkByIndex(cfg.Ifindex)
	if gone := (netlink.LinkNotFoundError{}); errors.As(err, &gone) {
		return cfg.fail("look up", unix.ENODEV)
	}
	if err != nil {
		return &OpenError{Ifname: cfg.Ifname, Queue: cfg.Queue, Step: "look up", Cause: err, Text: "the interface cannot be looked up"}
	}
	if mtu := link.Attrs().MTU; mtu > MaxMTU {
		return &OpenError{Ifname: cfg.Ifname, Queue: cfg.Queue, Step: "MTU", Cause: unix.EINVAL, Text: fmt.Sprintf(
			"MTU %d is too large: a frame of %d bytes holds an MTU of at most %d; set it with `ip link set %s mtu %d`",
			mtu, FrameSize, MaxMTU, cfg.Ifname, min(MaxMTU, 1500))}
	}
	rx, tx, err := Queues(link.Attrs().Name)
	if err != nil {
		return cfg.fail("look up", unix.ENODEV)
	}
	if n := min(rx, tx); cfg.Queue >= n {
		return &OpenError{Ifname: cfg.Ifname, Queue: cfg.Queue, Step: "queues", Cause: unix.EINVAL, Text: fmt.Sprintf(
			"no such queue: the interface has %d RX and %d TX queues; allowed: 0 to %d; see `ethtool -l %s`",
			rx, tx, n-1, cfg.Ifname)}
	}
	return nil
}
