package pipeline

import (
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/rewrite"
)

// The connections of an evicted backend (Backend.Evict) end: the backend is down, or not configured
// any more, and its service resets connections then, or its time to drain is over.
//
//	UDP              the next packet of the flow opens a new one, to another backend
//	TCP nat fullnat  each end that sends is answered with RST; the connection waits for both
//	                 in state Ended
//	TCP tun dr       the connection is forgotten; further packets are those of no connection
//
// A SYN opens a new connection at once, in all modes. Ends that send nothing get an RST probe
// (rst_probe.go).

// endedMs is the time for which a connection that was ended stays, so that both ends can be reset:
// IPVS's timeout of state Close.
const endedMs = 10_000

// endedInbound handles a client's packet if its connection was idle (idle.go) or has an evicted
// backend.
//
//go:noinline
func (p *Processor) endedInbound(f *Frame, t *conn.Table, k conn.Key, c *conn.Conn, be *Backend) {
	m := &f.meta
	switch {
	case !be.resets(c) || m.TCPFlags&(packet.SYN|packet.RST|packet.ACK) == packet.SYN:
		p.reopen(f, t, k, c)
	default:
		p.evict(c)
		p.reset(f, c, conn.ClientGone)
	}
}

// repeatsToRemoved is how often the SYN of a handshake may be repeated to a removed backend without
// an answer that Sluice sees: for five seconds (tcp_syn_linear_timeouts of Linux) at least.
const repeatsToRemoved = 5

// repeatsMask is the part of conn.Extra that counts them. The rest is openedAt.
const repeatsMask = 1<<repeatsBits - 1

// synRepeatMs is less than the time after which a client repeats a SYN (RFC 6298, 2.1), and more
// than a backend takes to answer.
const synRepeatMs = 500

// leavesRemoved reports whether a SYN opens another connection than that of the same client address
// and port to a backend that is no longer configured. A client port in use again must not depend on
// that backend: the first SYN on an established connection still goes there, because the backend
// may have the connection and answers then, so that the client's end resets it. A SYN that comes
// again, synRepeatMs after the last segment of the client and without an answer, or finds another
// state, opens a new connection.
//
// In tun and dr answers are never seen, so the client is asked (doubt.go): when it does not have
// the connection any more, the next SYN opens a new one. A handshake that the removal has
// interrupted, because a SYN-ACK was lost, goes on there: the backend would answer it after another
// one had, and the client would be reset.
func (p *Processor) leavesRemoved(c *conn.Conn, m *packet.Meta) bool {
	be := &p.t.Backends[c.Backend]
	if be.Configured || be.Evict || m.TCPFlags&(packet.SYN|packet.RST|packet.ACK) != packet.SYN {
		return false
	}
	oneWay := c.Flags&conn.NoOutput != 0
	switch {
	case c.State == conn.Established && oneWay:
		return false // see doubtful
	case c.State == conn.Established:
		silentMs := p.now + p.t.Services[c.Service()].TimeoutsMs[c.State] - c.Expires
		repeated := c.Flags&conn.SeenReply == 0 && int32(silentMs) >= synRepeatMs
		c.Flags &^= conn.SeenReply
		return repeated
	case c.State == conn.SynRecv && oneWay:
		c.Extra++
		return c.Extra&repeatsMask > repeatsToRemoved
	case c.State == conn.SynRecv:
		return c.Flags&conn.SeenReply == 0
	}
	return true
}

// resets reports whether the ends of the ended connection to the backend are reset.
func (be *Backend) resets(c *conn.Conn) bool {
	return c.Flags&conn.IsUDP == 0 && be.Mode.RepliesThroughUs()
}

// reopen removes the connection and handles the packet as one of no connection.
func (p *Processor) reopen(f *Frame, t *conn.Table, k conn.Key, c *conn.Conn) {
	if c = p.open(f, t, k, c); c == nil {
		return
	}
	m, direction := &f.meta, conn.Input
	if c.Flags&conn.NoOutput != 0 {
		direction = conn.InputOnly
	}
	p.advance(c, &p.t.Services[k.Service], direction, m.TCPFlags)
	p.deliver(f, c, &p.t.Backends[c.Backend])
}

// evict puts a connection with ends that are to be reset into state Ended, unless it is Idle. There
// it remains when its backend returns: one end may have been reset before, and the other one would
// wait for it without limit.
func (p *Processor) evict(c *conn.Conn) {
	if c.State < conn.Idle {
		p.end(c, conn.Ended)
	}
}

// end puts a connection that was ended into a state: Idle or Ended.
func (p *Processor) end(c *conn.Conn, s conn.State) {
	p.enter(c, s)
	c.Flags &^= conn.ClientGone | conn.BackendGone // they had another meaning
	c.Expires = p.now + endedMs
}

// reset answers a TCP packet of an ended connection with RST. There is no limit: the sender has a
// connection and gets no more packets than it sends, and many connections may be reset at once. The
// RST may be lost, so only an end that sends RST itself is gone, and gets the flag.
func (p *Processor) reset(f *Frame, c *conn.Conn, gone conn.Flags) {
	m := &f.meta
	if m.TCPFlags&packet.RST == 0 {
		rewrite.TCPReset(f.Mem, m)
		p.sendBack(f)
		return
	}
	c.Flags |= gone
	switch {
	case c.State == conn.Idle:
		f.drop(counter.NoConnection)
	case p.t.Services[c.Service()].Lists.deny(p.table(m).Client(c)):
		f.drop(counter.AccessDenied)
	default:
		f.drop(counter.BackendGone)
	}
}

// endedReply handles a backend's packet of a connection in state Close if the backend is evicted,
// and of one in state Idle or Ended. It reports whether it did.
//
//go:noinline
func (p *Processor) endedReply(f *Frame, c *conn.Conn) bool {
	if c.State < conn.Idle && !p.t.Backends[c.Backend].Evict {
		return false
	}
	p.evict(c)
	p.reset(f, c, conn.BackendGone)
	return true
}
