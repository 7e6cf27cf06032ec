package loadgen

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Traffic is what clients do by themselves, at the same time, from Begin to End.
type Traffic struct {
	Talking int           // open connections of each process that send a message again and again
	Every   time.Duration // from one message of a connection to the next, if the echo came before
	Bytes   int           // of a message
	PerS    int           // new connections per second of each process: open, echo, close
	First   int           // the first local port of new connections
	Ports   int           // how many they use, in turn
	GiveUp  time.Duration // how long a connection may wait for an answer
}

// Sum counts what Traffic came to, of all processes together.
type Sum struct {
	Echoed  int           // messages that came back as they were sent
	Broken  int           // connections that talked, and broke or got no answer
	Opened  int           // new connections that ended well
	Failed  int           // new connections that did not
	Skipped int           // new connections without a free local port
	Longest time.Duration // from a message to its echo
	Slowest time.Duration // of the new connections, from SYN to the last FIN
	Why     []string      // why connections broke or failed, some of them
}

// Join adds another sum.
func (s *Sum) Join(o Sum) {
	s.Echoed += o.Echoed
	s.Broken += o.Broken
	s.Opened += o.Opened
	s.Failed += o.Failed
	s.Skipped += o.Skipped
	s.Longest = max(s.Longest, o.Longest)
	s.Slowest = max(s.Slowest, o.Slowest)
	s.Why = append(s.Why, o.Why...)
}

// Begin begins traffic. Until End no other method may be called but Sum.
func (c *Clients) Begin(ctx context.Context, t Traffic) error {
	_, err := c.do(ctx, 0, func(int) command { return command{Do: "begin", Traffic: &t} })
	return err
}

// Sum returns what the traffic came to so far.
func (c *Clients) Sum(ctx context.Context) (Sum, error) { return c.sum(ctx, "sum") }

// End ends the traffic: each connection waits for the answer to what it has sent. Connections that
// broke are closed and removed.
func (c *Clients) End(ctx context.Context) (Sum, error) { return c.sum(ctx, "end") }

func (c *Clients) sum(ctx context.Context, do string) (sum Sum, err error) {
	a, err := c.all(ctx, func(int) command { return command{Do: do} })
	for _, text := range a.Sums {
		var one Sum
		err = errors.Join(err, json.Unmarshal(text, &one))
		sum.Join(one)
	}
	return sum, err
}

// maxReasons is how many reasons a Sum has.
const maxReasons = 20

// talk is Traffic in a client process: one goroutine with an epoll instance of its own.
type talk struct {
	Traffic
	client *client
	epoll  int
	stop   chan struct{}
	ask    chan chan Sum
	ended  chan Sum

	sum    Sum
	all    map[int]*exchange // by file descriptor
	due    []*exchange       // those that rest, the next one first, and some that broke
	next   int               // number of the next new connection
	broken map[*conn]bool
	buffer []byte
}

// exchange is a connection in a talk.
type exchange struct {
	*conn
	began  time.Time // of the last step
	first  time.Time // when it was opened, of one that is new
	number uint32    // of its message
	sent   []byte
	got    int
	phase  phase
}

// phase is what an exchange waits for.
type phase int

const (
	resting    phase = iota // its time, before the next message
	talking                 // an echo, after which it rests
	connecting              // the handshake of a new connection
	answering               // its echo
	ending                  // its end
)

func (c *client) begin(t Traffic) (*talk, error) {
	if t.Talking > len(c.open) || t.Bytes < message || t.Bytes > maxMessage || t.Ports == 0 && t.PerS > 0 {
		return nil, fmt.Errorf("%d connections cannot do %+v", len(c.open), t)
	}
	b := &talk{Traffic: t, client: c, stop: make(chan struct{}), ask: make(chan chan Sum), ended: make(chan Sum, 1),
		all: map[int]*exchange{}, broken: map[*conn]bool{}, buffer: make([]byte, maxMessage)}
	var err error
	if b.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	start := time.Now()
	for i, conn := range c.open[:t.Talking] {
		if err := watch(b.epoll, conn.fd, unix.EPOLLIN); err != nil {
			return nil, err
		}
		// spread over the period
		e := &exchange{conn: conn, began: start.Add(-t.Every + t.Every*time.Duration(i)/time.Duration(t.Talking))}
		b.all[conn.fd] = e
		b.due = append(b.due, e)
	}
	go b.run(start)
	return b, nil
}

// finish ends the talk, and removes the connections that broke from those that are open.
func (b *talk) finish() Sum {
	close(b.stop)
	sum := <-b.ended
	kept := b.client.open[:0]
	for _, conn := range b.client.open {
		if !b.broken[conn] {
			kept = append(kept, conn)
		}
	}
	b.client.open = kept
	unix.Close(b.epoll)
	return sum
}

// so returns the sum so far.
func (b *talk) so() Sum {
	reply := make(chan Sum)
	b.ask <- reply
	return <-reply
}

// turn is how long run waits for events at most. New connections come in steps of it.
const turn = 5 * time.Millisecond

func (b *talk) run(start time.Time) {
	events := make([]unix.EpollEvent, 256)
	var checked time.Time
	for stopping := false; ; {
		select {
		case <-b.stop:
			stopping = true
		case reply := <-b.ask:
			reply <- b.sum
		default:
		}
		now := time.Now()
		if !stopping {
			b.send(now)
			b.openNew(now, int(now.Sub(start).Seconds()*float64(b.PerS)))
		}
		if now.Sub(checked) > time.Second {
			b.giveUp(now)
			checked = now
		}
		if stopping && !b.waits() {
			b.ended <- b.sum
			return
		}
		n, err := unix.EpollWait(b.epoll, events, int(turn.Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			panic(err) // which the parent reads
		}
		now = time.Now()
		for _, event := range events[:max(n, 0)] {
			if e := b.all[int(event.Fd)]; e != nil {
				b.step(e, now)
			}
		}
	}
}

// waits reports whether something waits for an answer.
func (b *talk) waits() bool {
	for _, e := range b.all {
		if e.phase != resting {
			return true
		}
	}
	return false
}

// send sends the messages that are due.
func (b *talk) send(now time.Time) {
	for len(b.due) > 0 && now.Sub(b.due[0].began) >= b.Every {
		e := b.due[0]
		b.due = b.due[1:]
		if e.fd >= 0 {
			e.phase = talking
			b.write(e, now)
		}
	}
}

// openNew begins new connections up to a number.
func (b *talk) openNew(now time.Time, until int) {
	for ; b.next < until; b.next++ {
		e := &exchange{conn: &conn{fd: -1, port: uint16(b.First + b.next%b.Ports)}, first: now, began: now, phase: connecting}
		err := b.client.connect(e.conn)
		if err == nil {
			err = watch(b.epoll, e.fd, unix.EPOLLOUT)
		}
		switch {
		case errors.Is(err, unix.EADDRINUSE), errors.Is(err, unix.EADDRNOTAVAIL):
			b.sum.Skipped++
			e.reset()
		case err != nil:
			b.end(e, err)
		default:
			b.all[e.fd] = e
		}
	}
}

// step takes the next step of an exchange with an event.
func (b *talk) step(e *exchange, now time.Time) {
	var err error
	switch e.phase {
	case resting:
		if err = b.read(e); err == nil {
			return
		}
	case connecting:
		if err = b.client.connected(e.conn); err == nil {
			err = os.NewSyscallError("epoll_ctl", unix.EpollCtl(b.epoll, unix.EPOLL_CTL_MOD, e.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(e.fd)}))
		}
		if err == nil {
			e.phase = answering
			b.write(e, now)
			return
		}
	case talking, answering:
		if err = b.read(e); err == nil && e.got < len(e.sent) {
			return
		}
		if err == nil {
			b.echoed(e, now)
			return
		}
	case ending:
		n, readErr := unix.Read(e.fd, b.buffer)
		if errors.Is(readErr, unix.EAGAIN) {
			return
		}
		if err = readErr; err == nil && n > 0 {
			err = fmt.Errorf("no end, but % x", b.buffer[:n])
		}
		if err == nil {
			delete(b.all, e.fd)
			b.sum.Opened++
			b.sum.Slowest = max(b.sum.Slowest, now.Sub(e.first))
			unix.Close(e.fd)
			return
		}
	}
	b.end(e, err)
}

// echoed handles a whole echo.
func (b *talk) echoed(e *exchange, now time.Time) {
	b.sum.Longest = max(b.sum.Longest, now.Sub(e.began))
	b.sum.Echoed++
	if e.phase == talking {
		e.phase = resting
		b.due = append(b.due, e) // began orders them well enough
		return
	}
	if _, err := unix.Write(e.fd, []byte(goodbye)); err != nil {
		b.end(e, os.NewSyscallError("write", err))
		return
	}
	e.phase, e.began = ending, now
}

// maxMessage is the greatest length of a message: a server reads and writes so much at once.
const maxMessage = 4096

// write sends the next message of an exchange.
func (b *talk) write(e *exchange, now time.Time) {
	e.number++
	e.began, e.got = now, 0
	e.sent = b.content(e)
	n, err := unix.Write(e.fd, e.sent)
	if err == nil && n < len(e.sent) {
		err = unix.ENOBUFS
	}
	if err != nil {
		b.end(e, os.NewSyscallError("write", err))
	}
}

// content returns the message of an exchange, which differs from every other at each place.
func (b *talk) content(e *exchange) []byte {
	local := b.client.local.As16()
	text := make([]byte, b.Bytes)
	for i := 0; i+message <= len(text); i += message {
		copy(text[i:], local[14:])
		binary.BigEndian.PutUint16(text[i+2:], e.port)
		binary.BigEndian.PutUint32(text[i+4:], e.number<<8|uint32(i/message)&0xff)
	}
	return text
}

// read reads what has come of an echo, and compares it.
func (b *talk) read(e *exchange) error {
	n, err := unix.Read(e.fd, b.buffer)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return nil
	case err != nil:
		return os.NewSyscallError("read", err)
	case n == 0:
		return errors.New("the other end closed it")
	case e.got+n > len(e.sent) || string(b.buffer[:n]) != string(e.sent[e.got:e.got+n]):
		return fmt.Errorf("message %d came back different, from byte %d on", e.number, e.got)
	}
	e.got += n
	return nil
}

// giveUp ends exchanges that have waited for too long.
func (b *talk) giveUp(now time.Time) {
	for _, e := range b.all {
		if e.phase != resting && now.Sub(e.began) > b.GiveUp {
			b.end(e, fmt.Errorf("no answer within %v", b.GiveUp))
		}
	}
}

// end ends an exchange that failed.
func (b *talk) end(e *exchange, why error) {
	delete(b.all, e.fd)
	kind := "open before"
	if e.first.IsZero() {
		b.sum.Broken++
		b.broken[e.conn] = true
	} else {
		b.sum.Failed++
		kind = "new, " + [...]string{connecting: "connecting", answering: "answering", ending: "ending"}[e.phase]
	}
	if len(b.sum.Why) < maxReasons {
		b.sum.Why = append(b.sum.Why, fmt.Sprintf("%s %s: %v:%d to %s (%s): %v", time.Now().Format("15:04:05.000"),
			time.Since(e.began).Round(time.Millisecond), b.client.local, e.port, b.client.name, kind, why))
	}
	e.reset()
}
