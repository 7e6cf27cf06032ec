package flooding

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"sluice/tools/netlab"
)

// A connection is at once if it was opened and has answered within onTime, which is before the
// kernel sends a lost SYN again. What takes longer than giveUp has failed.
const (
	onTime = time.Second
	giveUp = 10 * time.Second
)

// Opened counts new connections, or datagrams that ask for an answer.
type Opened struct {
	Asked  int     `json:"asked"`
	Late   int     `json:"late"`   // answered, but later than a second
	Failed int     `json:"failed"` // not answered within ten seconds, or reset
	Why    string  `json:"why,omitempty"`
	WorstS float64 `json:"worst_s"` // of those that were answered
}

// LateShare returns the part of the connections that did not answer within a second.
func (o Opened) LateShare() float64 { return float64(o.Late+o.Failed) / float64(max(o.Asked, 1)) }

// OKShare returns the part of the connections that answered.
func (o Opened) OKShare() float64 { return 1 - float64(o.Failed)/float64(max(o.Asked, 1)) }

// opener opens connections at a steady rate.
type opener struct {
	host   *netlab.Host
	to     netip.AddrPort
	udp    bool
	perS   int
	stop   chan struct{}
	began  sync.WaitGroup // the loop, and each connection
	mu     sync.Mutex
	opened Opened
}

// open begins to open connections.
func open(h *netlab.Host, to netip.AddrPort, udp bool, perS int) *opener {
	o := &opener{host: h, to: to, udp: udp, perS: perS, stop: make(chan struct{})}
	if perS > 0 {
		o.began.Go(o.loop)
	}
	return o
}

func (o *opener) loop() {
	start := time.Now()
	for n := 0; ; n++ {
		select {
		case <-o.stop:
			return
		case <-time.After(time.Until(start.Add(time.Duration(n) * time.Second / time.Duration(o.perS)))):
		}
		o.began.Go(o.one)
	}
}

// end stops opening, waits for what is under way, and returns the sum.
func (o *opener) end() Opened {
	close(o.stop)
	o.began.Wait()
	return o.opened
}

// one opens a connection, exchanges a message, and closes it.
func (o *opener) one() {
	start := time.Now()
	err := o.ask(start.Add(giveUp))
	took := time.Since(start)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.opened.Asked++
	switch {
	case err != nil:
		o.opened.Failed++
		o.opened.Why = err.Error()
	default:
		o.opened.WorstS = max(o.opened.WorstS, took.Seconds())
		if took > onTime {
			o.opened.Late++
		}
	}
}

func (o *opener) ask(deadline time.Time) error {
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	network := "tcp"
	if o.udp {
		network = "udp"
	}
	c, err := o.host.Dial(ctx, network, o.to.String())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	if o.udp {
		return askUDP(c)
	}
	const text = "question"
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	answer := make([]byte, len(text))
	if _, err := io.ReadFull(c, answer); err != nil {
		return err
	}
	if string(answer) != text {
		return fmt.Errorf("sent %q, received %q", text, answer)
	}
	return nil
}

// udpWait is how long a client waits for an answer to a datagram.
const udpWait = 3 * time.Second

// askUDP sends one datagram: no one sends it again.
func askUDP(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(udpWait)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "question"); err != nil {
		return err
	}
	_, err := c.Read(make([]byte, 1500))
	return err
}

// holder exchanges a message on each connection that lasts, again and again.
type holder struct {
	lab    *lab
	stop   chan struct{}
	ended  sync.WaitGroup
	broken int
	rounds int
	why    error
}

// holdEvery is the time from one round to the next.
const holdEvery = 2 * time.Second

func (l *lab) hold(ctx context.Context) *holder {
	h := &holder{lab: l, stop: make(chan struct{})}
	h.ended.Go(func() { h.loop(ctx) })
	return h
}

func (h *holder) loop(ctx context.Context) {
	for {
		select {
		case <-h.stop:
			return
		case <-time.After(holdEvery):
		}
		h.round(ctx)
	}
}

// round exchanges one message on each connection. Those that break are removed.
func (h *holder) round(ctx context.Context) {
	n, err := h.lab.live.Echo(ctx)
	h.rounds++
	h.why = errors.Join(h.why, err)
	h.broken = h.lab.Live - n
}

// end makes a last round and returns how many connections broke.
func (h *holder) end(ctx context.Context) (int, error) {
	close(h.stop)
	h.ended.Wait()
	h.round(ctx)
	return h.broken, h.why
}
