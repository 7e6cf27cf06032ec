package loadgen

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"sluice/tools/netlab"
)

// Clients are processes with a local address each. Their methods are for one goroutine at a time.
// They say for how many connections, of all processes together, something was done; if that is not
// all, an error says why. Connections that break are closed and forgotten.
type Clients struct{ members }

// Gather starts a process for each of a host's addresses, whose connections go to target, an IP
// literal and a port.
func Gather(ctx context.Context, h *netlab.Host, locals []netip.Addr, target string) (*Clients, error) {
	all, err := start(ctx, len(locals), func(i int) (*member, error) {
		return newMember(h, calling, locals[i].String(), target)
	})
	return &Clients{all}, err
}

// Open opens n connections more: each process its part of them, from as many local ports, beginning
// with the first.
func (c *Clients) Open(ctx context.Context, first, n int) (opened int, err error) {
	return c.do(ctx, n, func(part int) order { return order{Do: "open", First: first, Ports: part} })
}

// Talk sends a message over each connection that is open, another one over each, and waits until it
// has come back.
func (c *Clients) Talk(ctx context.Context) (talked int, err error) {
	return c.do(ctx, 0, func(int) order { return order{Do: "talk"} })
}

// Leave ends all connections that are open.
func (c *Clients) Leave(ctx context.Context) (left int, err error) {
	return c.do(ctx, 0, func(int) order { return order{Do: "leave"} })
}

// Knock sends the SYNs of n connections, as Open would, and waits for nothing: the kernel sends
// them again and again.
func (c *Clients) Knock(ctx context.Context, first, n int) (knocked int, err error) {
	return c.do(ctx, n, func(part int) order { return order{Do: "knock", First: first, Ports: part} })
}

// GiveUp ends what Knock has begun, and says how many of the connections had come about.
func (c *Clients) GiveUp(ctx context.Context) (opened int, err error) {
	return c.do(ctx, 0, func(int) order { return order{Do: "give up"} })
}

// do has each process carry out an order that depends on its part of n.
func (c *Clients) do(ctx context.Context, n int, of func(part int) order) (int, error) {
	sum, err := c.all(ctx, func(i int) order {
		part := n / len(c.members)
		if i < n%len(c.members) {
			part++
		}
		return of(part)
	})
	if err == nil && sum.Why != "" {
		err = errors.New(sum.Why)
	}
	return sum.Count, err
}

// window is how many connections a process has under way at once: see the package's comment.
const window = 128

// idle is how long a process waits when of all connections under way none gets on. The kernel sends
// a SYN again after 1, 3 and 7 seconds.
const idle = 10 * time.Second

// message is how long a message is, and so is a goodbye.
const message = 8

// goodbye is no message: it would be one of the 1,650,000,000th talk or so.
const goodbye = "goodbye!"

// conn is one connection of a client.
type conn struct {
	fd   int
	port uint16
}

// client is a process of Clients.
type client struct {
	local  netip.Addr
	target unix.Sockaddr
	epoll  int // of the connections under way

	open, knocking []*conn
	talks          uint32 // so far
}

func call(local, target string) (func(order) answer, error) {
	c := new(client)
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
	return c.obey, os.NewSyscallError("epoll_create1", err)
}

func (c *client) obey(o order) answer {
	switch o.Do {
	case "open":
		opened, err := c.each(portsFrom(o), step{c.connect, unix.EPOLLOUT, c.connected})
		c.open = append(c.open, opened...)
		return said(len(opened), err)
	case "talk":
		c.talks++
		talked, err := c.each(c.open, step{c.say, unix.EPOLLIN, c.hear})
		c.open = talked
		return said(len(talked), err)
	case "leave":
		left, err := c.each(c.open, step{c.bid, unix.EPOLLIN, c.ended})
		c.open = nil
		return said(len(left), err)
	case "knock":
		for _, conn := range portsFrom(o) {
			if err := c.connect(conn); err != nil {
				return said(0, err)
			}
			c.knocking = append(c.knocking, conn)
		}
		return said(o.Ports, nil)
	case "give up":
		return c.giveUp()
	}
	return answer{Why: "no such order: " + o.Do}
}

func said(n int, err error) answer {
	if err != nil {
		return answer{Count: n, Why: err.Error()}
	}
	return answer{Count: n}
}

// portsFrom are the connections of an order, not yet open.
func portsFrom(o order) []*conn {
	all := make([]*conn, o.Ports)
	for i := range all {
		all[i] = &conn{fd: -1, port: uint16(o.First + i)}
	}
	return all
}

// step is something done with a connection: begin it, and when the event comes, see how it ended.
type step struct {
	begin func(*conn) error
	event uint32
	end   func(*conn) error
}

// each takes one step with each connection, window of them at a time. It gives those for which it
// succeeded, closes the others, and says what was wrong with the first.
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
	if waitErr != nil { // nothing moves, and nothing more was begun
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

// words are what is said over a connection: nothing that was said over another one, or before.
func (c *client) words(conn *conn) (words [message]byte) {
	local := c.local.As16()
	copy(words[:2], local[14:])
	binary.BigEndian.PutUint16(words[2:], conn.port)
	binary.BigEndian.PutUint32(words[4:], c.talks)
	return words
}

func (c *client) say(conn *conn) error {
	words := c.words(conn)
	_, err := unix.Write(conn.fd, words[:])
	return os.NewSyscallError("write", err)
}

func (c *client) hear(conn *conn) error {
	var heard [2 * message]byte
	n, err := unix.Read(conn.fd, heard[:])
	if err != nil {
		return os.NewSyscallError("read", err)
	}
	if want := c.words(conn); string(heard[:n]) != string(want[:]) {
		return fmt.Errorf("said % x, and % x came back", want, heard[:n])
	}
	return nil
}

func (c *client) bid(conn *conn) error {
	_, err := unix.Write(conn.fd, []byte(goodbye))
	return os.NewSyscallError("write", err)
}

func (c *client) ended(conn *conn) error {
	var heard [message]byte
	if n, err := unix.Read(conn.fd, heard[:]); err != nil || n > 0 {
		return fmt.Errorf("no end, but % x, %w", heard[:max(n, 0)], err)
	}
	conn.reset()
	return nil
}

// giveUp ends the connections of knock.
func (c *client) giveUp() answer {
	var a answer
	for _, conn := range c.knocking {
		info, err := unix.GetsockoptTCPInfo(conn.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return said(a.Count, os.NewSyscallError("getsockopt", err))
		}
		if info.State == unix.BPF_TCP_ESTABLISHED {
			a.Count++
		}
		conn.reset()
	}
	c.knocking = nil
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
