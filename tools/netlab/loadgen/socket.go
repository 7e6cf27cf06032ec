package loadgen

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// newSocket returns a TCP socket bound to a local address and port, with one option set before.
func newSocket(local netip.AddrPort, option int) (fd int, err error) {
	family := unix.AF_INET
	if local.Addr().Is6() {
		family = unix.AF_INET6
	}
	if fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1); err == nil {
		err = unix.Bind(fd, sockaddr(local))
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("binding %v: %w", local, err)
	}
	return fd, nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

func addrOf(s unix.Sockaddr) netip.Addr {
	switch s := s.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(s.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(s.Addr)
	}
	return netip.Addr{}
}

// watch adds a file descriptor to those of an epoll instance.
func watch(epoll, fd int, events uint32) error {
	err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
	return os.NewSyscallError("epoll_ctl", err)
}

// forever is the wait of servers, which may have no requests for a long time.
const forever = -1

// forEvents calls f with each file descriptor that has an event, until f returns false or no event
// has come for the given time.
func forEvents(epoll int, f func(fd int) (more bool, err error), waitLimit time.Duration) error {
	events := make([]unix.EpollEvent, 256)
	wait := -1
	if waitLimit != forever {
		wait = int(waitLimit.Milliseconds())
	}
	for {
		n, err := unix.EpollWait(epoll, events, wait)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return os.NewSyscallError("epoll_wait", err)
		}
		if n == 0 {
			return fmt.Errorf("nothing has moved for %v", waitLimit)
		}
		for _, event := range events[:n] {
			if more, err := f(int(event.Fd)); err != nil || !more {
				return err
			}
		}
	}
}
