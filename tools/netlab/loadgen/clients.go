package loadgen

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"sluice/tools/netlab"
)

// Clients are processes with a local address each. Their methods are for one goroutine at a time.
// They return the number of connections, of all processes together, for which they succeeded; if
// that is not all, also an error. Connections that break are closed and removed.
type Clients struct{ processes }

// Connect starts a process for each local address of a host. Their connections will go to target,
// an IP literal and a port.
func Connect(ctx context.Context, h *netlab.Host, locals []netip.Addr, target string) (*Clients, error) {
	all, err := start(ctx, len(locals), func(i int) (*process, error) {
		return newProcess(h, calling, locals[i].String(), target)
	})
	return &Clients{all}, err
}

// Open opens n more connections. Each process opens an equal part of them, from local ports that
// begin with first.
func (c *Clients) Open(ctx context.Context, first, n int) (opened int, err error) {
	return c.do(ctx, n, func(part int) command { return command{Do: "open", First: first, Ports: part} })
}

// Echo sends a message over each open connection, a different one over each, and waits until it has
// come back.
func (c *Clients) Echo(ctx context.Context) (echoed int, err error) {
	return c.do(ctx, 0, func(int) command { return command{Do: "echo"} })
}

// Close closes all open connections.
func (c *Clients) Close(ctx context.Context) (left int, err error) {
	return c.do(ctx, 0, func(int) command { return command{Do: "close"} })
}

// SendSYNs sends the SYNs of n connections, as Open does, and does not wait. The kernel sends them
// again.
func (c *Clients) SendSYNs(ctx context.Context, first, n int) (sent int, err error) {
	return c.do(ctx, n, func(part int) command { return command{Do: "send SYNs", First: first, Ports: part} })
}

// Abort ends what SendSYNs has begun, and returns how many of the connections were established.
func (c *Clients) Abort(ctx context.Context) (opened int, err error) {
	return c.do(ctx, 0, func(int) command { return command{Do: "abort"} })
}

// do makes each process execute a command that depends on its part of n.
func (c *Clients) do(ctx context.Context, n int, of func(part int) command) (int, error) {
	sum, err := c.all(ctx, func(i int) command {
		part := n / len(c.processes)
		if i < n%len(c.processes) {
			part++
		}
		return of(part)
	})
	if err == nil && sum.Why != "" {
		err = errors.New(sum.Why)
	}
	return sum.Count, err
}

// window bounds the connections that a process works on at once: see the package comment.
const window = 128

// idle is how long a process waits for progress on any of its connections. The kernel sends a SYN
// again after 1, 3 and 7 seconds.
const idle = 10 * time.Second

// message is the length of a message and of goodbye.
const message = 8

// goodbye equals no message before the 1,650,000,000th echo or so.
const goodbye = "goodbye!"

// conn is one connection of a client.
type conn struct {
	fd   int
	port uint16
}

// client is one process of Clients.
type client struct {
	local  netip.Addr
	target unix.Sockaddr
	epoll  int // of the connections in progress

	open, pending []*conn
	echoes        uint32 // so far
	name          string // of the target
	talk          *talk  // nil: none
}

func call(local, target string) (func(command) answer, error) {
	c := &client{name: target}
	var err error
	if c.local, err = netip.ParseAddr(local); err != nil {
		return nil, err
	}
	to, err := netip.ParseAddrPort(target)
	if err != nil {
		return nil, err
	}
	c.target = sockaddr(to)
	c.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return c.execute, os.NewSyscallError("epoll_create1", err)
}

func (c *client) execute(o command) answer {
	switch o.Do {
	case "open":
		opened, err := c.each(portsFrom(o), step{c.connect, unix.EPOLLOUT, c.connected})
		c.open = append(c.open, opened...)
		return result(len(opened), err)
	case "echo":
		c.echoes++
		echoed, err := c.each(c.open, step{c.sendMessage, unix.EPOLLIN, c.receiveMessage})
		c.open = echoed
		return result(len(echoed), err)
	case "close":
		left, err := c.each(c.open, step{c.sendGoodbye, unix.EPOLLIN, c.ended})
		c.open = nil
		return result(len(left), err)
	case "send SYNs":
		for _, conn := range portsFrom(o) {
			if err := c.connect(conn); err != nil {
				return result(0, err)
			}
			c.pending = append(c.pending, conn)
		}
		return result(o.Ports, nil)
	case "abort":
		return c.abort()
	case "begin":
		var err error
		c.talk, err = c.begin(*o.Traffic)
		return result(0, err)
	case "sum":
		return withSum(c.talk.so())
	case "end":
		return withSum(c.talk.finish())
	}
	return answer{Why: "no such command: " + o.Do}
}

func result(n int, err error) answer {
	if err != nil {
		return answer{Count: n, Why: err.Error()}
	}
	return answer{Count: n}
}

func withSum(sum Sum) answer {
	text, err := json.Marshal(sum)
	a := result(0, err)
	a.Sums = []json.RawMessage{text}
	return a
}

// portsFrom returns the connections of a command, not yet open.
func portsFrom(o command) []*conn {
	all := make([]*conn, o.Ports)
	for i := range all {
		all[i] = &conn{fd: -1, port: uint16(o.First + i)}
	}
	return all
}

// step is one operation on a connection: begin starts it, and end finishes it after the event.
type step struct {
	begin func(*conn) error
	event uint32
	end   func(*conn) error
}

// each does one step on each connection, window of them at a time. It returns those for which it
// succeeded, closes the others, and returns the error of the first that failed.
func (c *client) each(all []*conn, s step) (good []*conn, err error) {
	under := make(map[int]*conn, window)
	fail := func(conn *conn, why error) {
		if err == nil {
			err = fmt.Errorf("%v:%d: %w", c.local, conn.port, why)
		}
		conn.reset()
	}
	next := 0
	begin := func() bool {
		for ; next < len(all) && len(under) < window; next++ {
			conn := all[next]
			why := s.begin(conn)
			if why == nil {
				why = watch(c.epoll, conn.fd, s.event)
			}
			if why != nil {
				fail(conn, why)
				continue
			}
			under[conn.fd] = conn
		}
		return len(under) > 0
	}
	if !begin() {
		return nil, err
	}
	waitErr := forEvents(c.epoll, func(fd int) (bool, error) {
		conn := under[fd]
		delete(under, fd)
		if why := unix.EpollCtl(c.epoll, unix.EPOLL_CTL_DEL, fd, nil); why != nil {
			return false, os.NewSyscallError("epoll_ctl", why)
		}
		if why := s.end(conn); why != nil {
			fail(conn, why)
		} else {
			good = append(good, conn)
		}
		return begin(), nil
	}, idle)
	if waitErr != nil { // no progress: fail the rest
		for _, conn := range under {
			fail(conn, waitErr)
		}
		for _, conn := range all[next:] {
			fail(conn, waitErr)
		}
	}
	return good, err
}

func (c *client) connect(conn *conn) (err error) {
	if conn.fd, err = newSocket(netip.AddrPortFrom(c.local, conn.port), unix.SO_REUSEADDR); err != nil {
		return err
	}
	if err := unix.Connect(conn.fd, c.target); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return os.NewSyscallError("connect", err)
	}
	return nil
}

func (c *client) connected(conn *conn) error {
	code, err := unix.GetsockoptInt(conn.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
	}
	return os.NewSyscallError("connect", err)
}

// words returns the message of a connection, which differs from those of other connections and of
// earlier echoes.
func (c *client) words(conn *conn) (words [message]byte) {
	local := c.local.As16()
	copy(words[:2], local[14:])
	binary.BigEndian.PutUint16(words[2:], conn.port)
	binary.BigEndian.PutUint32(words[4:], c.echoes)
	return words
}

func (c *client) sendMessage(conn *conn) error {
	words := c.words(conn)
	_, err := unix.Write(conn.fd, words[:])
	return os.NewSyscallError("write", err)
}

func (c *client) receiveMessage(conn *conn) error {
	var received [2 * message]byte
	n, err := unix.Read(conn.fd, received[:])
	if err != nil {
		return os.NewSyscallError("read", err)
	}
	if want := c.words(conn); string(received[:n]) != string(want[:]) {
		return fmt.Errorf("sent % x, received % x", want, received[:n])
	}
	return nil
}

func (c *client) sendGoodbye(conn *conn) error {
	_, err := unix.Write(conn.fd, []byte(goodbye))
	return os.NewSyscallError("write", err)
}

func (c *client) ended(conn *conn) error {
	var received [message]byte
	if n, err := unix.Read(conn.fd, received[:]); err != nil || n > 0 {
		return fmt.Errorf("no end, but % x, %w", received[:max(n, 0)], err)
	}
	conn.reset()
	return nil
}

// abort ends the connections of sendSYNs.
func (c *client) abort() answer {
	var a answer
	for _, conn := range c.pending {
		info, err := unix.GetsockoptTCPInfo(conn.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return result(a.Count, os.NewSyscallError("getsockopt", err))
		}
		if info.State == unix.BPF_TCP_ESTABLISHED {
			a.Count++
		}
		conn.reset()
	}
	c.pending = nil
	return a
}

// reset closes a connection at once, by RST if the other end has it too.
func (conn *conn) reset() {
	if conn.fd < 0 {
		return
	}
	_ = unix.SetsockoptLinger(conn.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	unix.Close(conn.fd)
	conn.fd = -1
}
