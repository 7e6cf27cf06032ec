// Package tun creates the interfaces of tun(4), by which a process and its host exchange packets.
//
// An interface exists as long as its file descriptor is open, so it ends with the process. The
// package owns nothing. It is a leaf.
package tun

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Kind is what an interface carries.
type Kind uint16

// The kinds.
const (
	Packets Kind = unix.IFF_TUN // IP packets
	Frames  Kind = unix.IFF_TAP // Ethernet frames
)

// Open creates an interface in the network namespace of the calling thread. The kernel completes
// the name, which ends in %d, with the lowest free number. The descriptor does not block. Errors
// tell what is missing.
func Open(kind Kind, pattern string) (fd int, name string, err error) {
	fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return -1, "", errors.New("/dev/net/tun is missing: load the kernel module tun (modprobe tun), and allow the service to use the device (DeviceAllow=/dev/net/tun rw)")
	case errors.Is(err, os.ErrPermission):
		return -1, "", errors.New("/dev/net/tun cannot be opened: give it mode 0666, which is udev's default, and allow the service to use it (DeviceAllow=/dev/net/tun rw)")
	case err != nil:
		return -1, "", fmt.Errorf("opening /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(pattern)
	if err == nil {
		request.SetUint16(uint16(kind) | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		unix.Close(fd)
		if errors.Is(err, os.ErrPermission) {
			return -1, "", errors.New("creating a TUN or TAP device needs CAP_NET_ADMIN: run as root, or give the service AmbientCapabilities=CAP_NET_ADMIN")
		}
		return -1, "", fmt.Errorf("creating a TUN or TAP device: %w", err)
	}
	return fd, request.Name(), nil
}

// SetUp sets an interface up, without a link-local address of IPv6.
func SetUp(link netlink.Link) error {
	const none = 1 // IN6_ADDR_GEN_MODE_NONE (include/uapi/linux/if_link.h)
	// Without IPv6 this fails, and then it is not needed.
	_ = netlink.LinkSetIP6AddrGenMode(link, none)
	return netlink.LinkSetUp(link)
}
