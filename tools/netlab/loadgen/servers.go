package loadgen

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"sluice/tools/netlab"
)

// Servers are processes that share one port of a host. Their methods are for one goroutine at a
// time.
type Servers struct{ processes }

// Serve starts n processes that listen on an address, an IP literal and a port.
func Serve(ctx context.Context, h *netlab.Host, addr string, processes int) (*Servers, error) {
	all, err := start(ctx, processes, func(int) (*process, error) { return newProcess(h, serving, addr) })
	return &Servers{all}, err
}

// Held returns the number of connections that the servers have now, and the addresses of their
// other ends.
func (s *Servers) Held(ctx context.Context) (n int, peers []netip.Addr, err error) {
	a, err := s.all(ctx, func(int) command { return command{Do: "held"} })
	slices.SortFunc(a.Peers, netip.Addr.Compare)
	return a.Count, slices.Compact(a.Peers), err
}

// backlog is the number of connections that may wait to be accepted. The kernel limits it to
// net.core.somaxconn.
const backlog = 4096

// server is one process of Servers.
type server struct {
	epoll, listener int

	mu    sync.Mutex
	held  map[int]netip.Addr // the other end, by file descriptor
	peers map[netip.Addr]int // connections from it
}

// serve listens, and serves on a goroutine of its own while it executes commands.
func serve(addr string) (func(command) answer, error) {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	s := &server{held: map[int]netip.Addr{}, peers: map[netip.Addr]int{}}
	if s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if s.listener, err = newSocket(at, unix.SO_REUSEPORT); err != nil {
		return nil, err
	}
	if err := unix.Listen(s.listener, backlog); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	if err := watch(s.epoll, s.listener, unix.EPOLLIN); err != nil {
		return nil, err
	}
	go func() {
		if err := s.run(); err != nil {
			panic(err) // which the parent reads
		}
	}()
	return s.execute, nil
}

func (s *server) execute(command) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return answer{Count: len(s.held), Peers: slices.Collect(maps.Keys(s.peers))}
}

func (s *server) run() error {
	buf := make([]byte, 4096)
	return forEvents(s.epoll, func(fd int) (bool, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if fd == s.listener {
			return true, s.accept()
		}
		if !echo(fd, buf) {
			s.end(fd)
		}
		return true, nil
	}, forever)
}

// accept accepts all connections that wait.
func (s *server) accept() error {
	for {
		fd, peer, err := unix.Accept4(s.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if errors.Is(err, unix.EAGAIN) {
			return nil
		}
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ECONNABORTED) {
			continue
		}
		if err != nil {
			return os.NewSyscallError("accept4", err)
		}
		if err := watch(s.epoll, fd, unix.EPOLLIN); err != nil {
			return err
		}
		s.held[fd] = addrOf(peer)
		s.peers[s.held[fd]]++
	}
}

func (s *server) end(fd int) {
	peer := s.held[fd]
	delete(s.held, fd)
	if s.peers[peer]--; s.peers[peer] == 0 {
		delete(s.peers, peer)
	}
	unix.Close(fd)
}

// echo sends back what it receives, and reports whether the connection continues. Messages have few
// bytes and each is answered before the next, so no buffer is ever full.
func echo(fd int, buf []byte) bool {
	n, err := unix.Read(fd, buf)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return true
	}
	if err != nil || n == 0 || string(buf[:n]) == goodbye {
		return false
	}
	wrote, err := unix.Write(fd, buf[:n])
	return err == nil && wrote == n
}
