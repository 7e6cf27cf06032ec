// Package sockets measures a balancer with real connections of the kernel's TCP: how many can be
// opened, used and closed per second, and how much one direction carries. Clients and servers are
// threads of this process in the namespaces of a testbed, on one CPU, each with one connection at a
// time and plain blocking calls.
package sockets

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sluice/tools/pause"
	"sluice/tools/pktgen/affinity"
)

// The first byte that a client sends is its request.
const (
	wantAnswer = 'a' // one answer, then the server closes
	wantSink   = 's' // the server reads until the end
)

const (
	messageBytes = 64
	blockBytes   = 128 << 10
	// waitLimit bounds every call. A call that takes longer counts as an error.
	waitLimit = 3 * time.Second
)

// Servers listen on one port of all addresses of a namespace.
type Servers struct {
	received  atomic.Uint64 // bytes
	listeners []int
	ended     sync.WaitGroup
}

// Serve starts so many servers. Each has a listening socket of its own (SO_REUSEPORT).
func Serve(where affinity.Affinity, n int, ports ...uint16) (*Servers, error) {
	s := &Servers{}
	for _, port := range ports {
		for range n {
			if err := s.start(where, port); err != nil {
				return nil, errors.Join(err, s.Close())
			}
		}
	}
	return s, nil
}

func (s *Servers) start(where affinity.Affinity, port uint16) error {
	started := make(chan error, 1)
	s.ended.Add(1)
	go func() {
		defer s.ended.Done()
		_ = where.Do(func() error { // its error is that of listen
			fd, err := listen(port)
			if err == nil {
				s.listeners = append(s.listeners, fd) // one goroutine calls start and waits
			}
			started <- err
			if err == nil {
				s.serve(fd)
			}
			return nil
		})
		select {
		case started <- errors.New("the namespace can't be entered"):
		default:
		}
	}()
	return <-started
}

func listen(port uint16) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("socket: %w", err)
	}
	for _, option := range []int{unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1)
		}
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Port: int(port)})
	}
	if err == nil {
		err = unix.Listen(fd, 1024)
	}
	if err != nil {
		unix.Close(fd)
		return 0, fmt.Errorf("listening on port %d: %w", port, err)
	}
	return fd, nil
}

// serve takes connections until the listening socket is shut down.
func (s *Servers) serve(listener int) {
	buffer := make([]byte, 2*blockBytes)
	for {
		fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
		switch {
		case err == nil:
			s.talk(fd, buffer)
			unix.Close(fd)
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
		default:
			return
		}
	}
}

func (s *Servers) talk(fd int, buffer []byte) {
	if bound(fd) != nil {
		return
	}
	n, err := read(fd, buffer)
	if err != nil || n == 0 {
		return
	}
	if buffer[0] == wantAnswer {
		_, _ = write(fd, buffer[:messageBytes])
		return
	}
	for err == nil && n > 0 {
		s.received.Add(uint64(n))
		n, err = read(fd, buffer)
	}
}

// Close ends all servers. Clients must have ended before.
func (s *Servers) Close() error {
	for _, fd := range s.listeners {
		_ = unix.Shutdown(fd, unix.SHUT_RDWR) // wakes accept
	}
	s.ended.Wait()
	var errs []error
	for _, fd := range s.listeners {
		errs = append(errs, unix.Close(fd))
	}
	return errors.Join(errs...)
}

// Load configures what the clients do.
type Load struct {
	To      netip.AddrPort
	Clients int
	Bulk    bool          // one connection for each client, as fast as possible
	Warm    time.Duration // before the window
	Window  time.Duration
}

// Reading has the results of the window.
type Reading struct {
	Connections uint64 // opened, used and closed by the server
	Errors      uint64 // connections that broke, or waited too long
	Bytes       uint64 // that servers received
	Seconds     float64
	Why         error // the first of the errors
}

// clients is one run of the clients.
type clients struct {
	load   Load
	stop   atomic.Bool
	done   atomic.Uint64
	failed atomic.Uint64
	ended  sync.WaitGroup
	once   sync.Once
	why    error
}

// Measure runs the clients from before the window until after it. atStart and atEnd are called at
// its two ends.
func Measure(ctx context.Context, where affinity.Affinity, servers *Servers, l Load, atStart, atEnd func() error) (Reading, error) {
	c := &clients{load: l}
	for range l.Clients {
		c.ended.Add(1)
		go func() {
			defer c.ended.Done()
			if err := where.Do(c.run); err != nil {
				c.fail(err)
			}
		}()
	}
	r, err := c.window(ctx, servers, atStart, atEnd)
	c.stop.Store(true)
	c.ended.Wait()
	r.Why = c.why
	return r, err
}

func (c *clients) window(ctx context.Context, servers *Servers, atStart, atEnd func() error) (r Reading, err error) {
	if err := c.awaitFirst(ctx, servers); err != nil {
		return r, err
	}
	if err := pause.For(ctx, c.load.Warm); err != nil {
		return r, err
	}
	if err := atStart(); err != nil {
		return r, err
	}
	start, done, failed, bytes := time.Now(), c.done.Load(), c.failed.Load(), servers.received.Load()
	if err := pause.For(ctx, c.load.Window); err != nil {
		return r, err
	}
	r.Connections, r.Errors, r.Bytes = c.done.Load()-done, c.failed.Load()-failed, servers.received.Load()-bytes
	r.Seconds = time.Since(start).Seconds()
	return r, atEnd()
}

// awaitFirst waits for the first connection: a lost SYN is sent again only after a second.
func (c *clients) awaitFirst(ctx context.Context, servers *Servers) error {
	before := servers.received.Load()
	for deadline := time.Now().Add(2 * waitLimit); c.done.Load() == 0 && servers.received.Load() == before; {
		if time.Now().After(deadline) {
			return errors.New("nothing gets through")
		}
		if err := pause.For(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func (c *clients) fail(err error) {
	c.failed.Add(1)
	c.once.Do(func() { c.why = err })
}

// failurePause keeps clients from spinning when every connection fails.
const failurePause = 10 * time.Millisecond

// run runs one client and returns what it did.
func (c *clients) run() error {
	block := make([]byte, blockBytes)
	for !c.stop.Load() {
		err := c.connection(block)
		if c.stop.Load() {
			break // errors after the end do not count
		}
		if err != nil {
			c.fail(err)
			time.Sleep(failurePause)
			continue
		}
		c.done.Add(1)
	}
	return nil
}

func (c *clients) connection(block []byte) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	if err := bound(fd); err != nil {
		return err
	}
	if err := connect(fd, c.load.To); err != nil {
		return fmt.Errorf("connect to %s: %w", c.load.To, err)
	}
	if c.load.Bulk {
		return c.stream(fd, block)
	}
	return ask(fd, block)
}

// connect continues to wait when a signal interrupts it: a second connect would fail with EALREADY.
func connect(fd int, to netip.AddrPort) error {
	err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
	if !errors.Is(err, unix.EINTR) {
		return err
	}
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	for deadline := time.Now().Add(waitLimit); ; {
		n, err := unix.Poll(poll, int(waitLimit.Milliseconds()))
		if n > 0 {
			break
		}
		if err == nil || !errors.Is(err, unix.EINTR) || time.Now().After(deadline) {
			return unix.ETIMEDOUT
		}
	}
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
	}
	return err
}

// ask sends one message, reads the answer, and waits for the server to close.
func ask(fd int, block []byte) error {
	block[0] = wantAnswer
	if _, err := write(fd, block[:messageBytes]); err != nil {
		return fmt.Errorf("asking: %w", err)
	}
	for got := 0; ; {
		n, err := read(fd, block)
		if err != nil {
			return fmt.Errorf("reading the answer: %w", err)
		}
		if n == 0 && got == messageBytes {
			return nil
		}
		if n == 0 {
			return fmt.Errorf("the answer has %d bytes, not %d", got, messageBytes)
		}
		got += n
	}
}

// stream sends until it has to stop.
func (c *clients) stream(fd int, block []byte) error {
	block[0] = wantSink
	for !c.stop.Load() {
		if _, err := write(fd, block); err != nil {
			return fmt.Errorf("sending: %w", err)
		}
	}
	return nil
}

// bound sets timeouts on the socket.
func bound(fd int) error {
	tv := unix.NsecToTimeval(waitLimit.Nanoseconds())
	return errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv))
}

func read(fd int, b []byte) (n int, err error) {
	for {
		if n, err = unix.Read(fd, b); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// write writes all of b.
func write(fd int, b []byte) (n int, err error) {
	for n < len(b) {
		wrote, err := unix.Write(fd, b[n:])
		if err != nil && !errors.Is(err, unix.EINTR) {
			return n, err
		}
		n += max(wrote, 0)
	}
	return n, nil
}
