package xsk

import (
	"errors"
	"fmt"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Queues is the number of RX and of TX queues that an interface of the calling thread's network
// namespace uses. Numbers of queues begin with 0.
//
// It asks the driver (ethtool -l) and, if the driver doesn't say, counts the queues that the device
// was made with. sysfs is not asked: it shows the interfaces of the namespace that it was mounted
// in, not the caller's.
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

// channels is what the driver says, 0 if it doesn't.
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

// checkLink finds what would make a socket on the interface useless although the kernel may accept
// it.
func checkLink(cfg Config) error {
	link, err := netlink.LinkByIndex(cfg.Ifindex)
	if gone := (netlink.LinkNotFoundError{}); errors.As(err, &gone) {
		return cfg.fail("look up", unix.ENODEV)
	}
	if err != nil {
		return &OpenError{Ifname: cfg.Ifname, Queue: cfg.Queue, Step: "look up", Cause: err, Text: "interface can't be looked up"}
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
			"no such queue: the interface has %d RX and %d TX queues, so that 0 to %d can be used; see `ethtool -l %s`",
			rx, tx, n-1, cfg.Ifname)}
	}
	return nil
}
