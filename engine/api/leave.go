package api

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Another process can go on with copies of the sockets on which a Server accepts connections, so
// that no client is refused while it takes the place of this one.

// The names of these sockets.
const (
	controlListener = "listen.control"
	networkListener = "listen.network"
)

// Former are the listeners of a former process, by which a daemon goes on; nil: there is none.
type Former struct{ Control, Network net.Listener }

// FormerListeners takes the listeners of a former process. One that cannot be used is missing.
func FormerListeners(take func(name string) (fd int, ok bool)) (f Former) {
	for name, l := range map[string]*net.Listener{controlListener: &f.Control, networkListener: &f.Network} {
		if fd, ok := take(name); ok {
			*l = listenAs(fd)
		}
	}
	return f
}

// listenAs returns the listener of a descriptor, which it owns; nil: it is of no use. Closing the
// listener of a control socket removes that.
func listenAs(fd int) net.Listener {
	file := os.NewFile(uintptr(fd), "listener")
	defer file.Close() // FileListener has a copy
	listener, err := net.FileListener(file)
	if err != nil {
		return nil
	}
	if socket, ok := listener.(*net.UnixListener); ok {
		socket.SetUnlinkOnClose(true)
		// so that clients see this process at the other end
		_ = syscall.Listen(fd, syscall.SOMAXCONN)
	}
	return listener
}

// Listeners returns copies of the sockets on which the server accepts connections. The caller
// closes them.
func (s *Server) Listeners() (map[string]int, error) {
	s.listenMu.Lock()
	defer s.listenMu.Unlock()
	copies := make(map[string]int)
	var errs []error
	for name, l := range s.listeners {
		raw, err := l.(syscall.Conn).SyscallConn()
		if err == nil {
			err = errors.Join(err, raw.Control(func(fd uintptr) {
				var own int
				if own, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); err == nil {
					copies[name] = own
				}
			}))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return copies, errors.Join(errs...)
}

// Leave makes the server accept no more connections, because another process does: the control
// socket stays where it is. Serve returns nil then. Requests that have begun are answered.
func (s *Server) Leave() {
	s.listenMu.Lock()
	defer s.listenMu.Unlock()
	s.left.Store(true)
	for _, l := range s.listeners {
		if socket, ok := l.(*net.UnixListener); ok {
			socket.SetUnlinkOnClose(false)
		}
		l.Close()
	}
}

// serving remembers a listener for Listeners.
func (s *Server) serving(name string, l net.Listener) {
	s.listenMu.Lock()
	defer s.listenMu.Unlock()
	if _, ok := l.(syscall.Conn); ok {
		s.listeners[name] = l
	}
}

// Inherit makes OpenNetwork use the listener of a former process, if it is for the same address.
func (s *Server) Inherit(network net.Listener) { s.formerNetwork = network }

// listenOn returns a listener on the address: the former one, which is closed if it is for another
// address.
func (s *Server) listenOn(address string) (net.Listener, error) {
	former := s.formerNetwork
	s.formerNetwork = nil
	if former != nil && sameAddress(address, former.Addr()) {
		return former, nil
	}
	if former != nil {
		former.Close()
	}
	return net.Listen("tcp", address)
}

func sameAddress(address string, former net.Addr) bool {
	at, err := net.ResolveTCPAddr("tcp", address)
	of, ok := former.(*net.TCPAddr)
	if err != nil || !ok || at.Port != of.Port {
		return false
	}
	return at.IP.Equal(of.IP) || len(at.IP) == 0 && of.IP.IsUnspecified()
}
