package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Broken is a connection of a client that did not end well, with everything that its client knows.
type Broken struct {
	Service string
	Local   netip.AddrPort
	Server  string // as it named itself; "": it did not
	Phase   string // connect, greeting, exchange, close
	Why     string // refused, reset, eof, timeout, or the error
	Began   time.Time
	Heard   time.Time // the last bytes of the server; zero: none
	Ended   time.Time
	Echoed  int64 // bytes
}

// String returns everything in one line.
func (b Broken) String() string {
	last := "never heard"
	if !b.Heard.IsZero() {
		last = "last heard " + clock(b.Heard)
	}
	return fmt.Sprintf("%s %s server %q: %s in %s; began %s, %s, ended %s (%.1f s), %d bytes echoed",
		b.Service, b.Local, b.Server, b.Why, b.Phase, clock(b.Began), last, clock(b.Ended), b.Ended.Sub(b.Began).Seconds(), b.Echoed)
}

func clock(t time.Time) string { return t.Format("15:04:05.000") }

// errCorrupt is what nothing explains.
var errCorrupt = errors.New("corrupt: the echo differs from what was sent")

// errBusy means that this host has the local port in use.
var errBusy = errors.New("local port in use")

// connection is one connection of a client while it lasts.
type connection struct {
	Broken
	net.Conn
	timeout time.Duration // for each step
	random  *rand.Rand    // for sizes and pauses
	data    *rand.ChaCha8 // what is sent, different on each connection
	stop    <-chan struct{}
}

// run opens a connection, exchanges data, and closes it.
func (c *connection) run(service netip.AddrPort, longest time.Duration) (err error) {
	defer func() {
		c.Ended = time.Now()
		if c.Conn != nil {
			c.Close()
		}
	}()
	c.Began, c.Phase = time.Now(), "connect"
	if err := c.dial(service); err != nil {
		return err
	}
	if err := c.greet(); err != nil {
		return err
	}
	c.Phase = "exchange"
	if err := c.talk(longest); err != nil {
		return err
	}
	c.Phase = "close"
	if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	switch err := c.read(make([]byte, 1)); {
	case err == nil:
		return errCorrupt
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

// greet makes the first exchange, in which the server says its name. The client sends at once:
// one that only waits would never learn of a server that has given up the connection because the
// last segment of the handshake was lost too often.
func (c *connection) greet() error {
	c.Phase = "greeting"
	n := 1 + c.random.IntN(1400)
	out := make([]byte, n)
	_, _ = c.data.Read(out) // never fails
	if err := c.write(out); err != nil {
		return err
	}
	line := make([]byte, greetingLen)
	if err := c.read(line); err != nil {
		return err
	}
	name, ok := strings.CutPrefix(strings.TrimRight(string(line), " \n"), greetingWord)
	if !ok {
		return errCorrupt
	}
	c.Server = name
	return c.compare(out)
}

func (c *connection) dial(service netip.AddrPort) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	d := net.Dialer{
		LocalAddr: net.TCPAddrFromAddrPort(c.Local),
		KeepAlive: -1, // a client that waits says nothing
		Control: func(_, _ string, raw syscall.RawConn) (err error) {
			// Ports in TIME_WAIT towards another service are free.
			controlErr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
			return errors.Join(controlErr, err)
		},
	}
	c.Conn, err = d.DialContext(ctx, "tcp", service.String())
	if errors.Is(err, unix.EADDRINUSE) || errors.Is(err, unix.EADDRNOTAVAIL) {
		return errBusy
	}
	return err
}

// talk exchanges data: most connections are short, some carry much, and some are long-lived.
func (c *connection) talk(longest time.Duration) error {
	switch kind := c.random.IntN(100); {
	case kind < 3:
		for end := time.Now().Add(longest/10 + c.upTo(longest)); time.Now().Before(end) && !c.pause(2*time.Second); {
			if err := c.exchange(1 + c.random.IntN(2000)); err != nil {
				return err
			}
		}
		return nil
	case kind < 8:
		for range 1 + c.random.IntN(3) {
			if err := c.exchange(8<<10 + c.random.IntN(24<<10)); err != nil {
				return err
			}
		}
		return nil
	default:
		for range 1 + c.random.IntN(6) {
			if err := c.exchange(1 + c.random.IntN(1400)); err != nil {
				return err
			}
			if c.pause(300 * time.Millisecond) {
				break
			}
		}
		return nil
	}
}

func (c *connection) upTo(d time.Duration) time.Duration {
	return time.Duration(c.random.Int64N(int64(d)))
}

// pause waits for a random time and reports whether the client shall come to its end.
func (c *connection) pause(longest time.Duration) (stop bool) {
	select {
	case <-time.After(c.upTo(longest)):
		return false
	case <-c.stop:
		return true
	}
}

// exchange sends so many bytes, which fit into the buffers of sockets, and checks the echo.
func (c *connection) exchange(n int) error {
	out := make([]byte, n)
	_, _ = c.data.Read(out) // never fails
	if err := c.write(out); err != nil {
		return err
	}
	return c.compare(out)
}

// compare reads the echo of what was sent.
func (c *connection) compare(sent []byte) error {
	echo := make([]byte, len(sent))
	if err := c.read(echo); err != nil {
		return err
	}
	if !bytes.Equal(sent, echo) {
		return errCorrupt
	}
	c.Echoed += int64(len(echo))
	return nil
}

func (c *connection) write(b []byte) error {
	err := c.SetWriteDeadline(time.Now().Add(c.timeout))
	if err == nil {
		_, err = c.Write(b)
	}
	return err
}

// read fills the buffer.
func (c *connection) read(buffer []byte) error {
	for got := 0; got < len(buffer); {
		if err := c.SetReadDeadline(time.Now().Add(c.timeout)); err != nil {
			return err
		}
		n, err := c.Read(buffer[got:])
		got += n
		if n > 0 {
			c.Heard = time.Now()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// reason returns an error in a word.
func reason(err error) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ENOTCONN):
		return "reset"
	case errors.Is(err, io.EOF):
		return "eof"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return "timeout"
	}
	return err.Error()
}
