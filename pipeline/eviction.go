package pipeline

import (
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/rewrite"
)

// An evicted backend (Backend.Evict) loses its connections: it is down, or what it was given time
// for is over.
//
//	UDP             the flow's next packet goes to another backend, as a new flow
//	TCP nat fullnat each end that sends is answered with RST; the connection waits for both in state Close
//	TCP tun dr      the connection is forgotten; what its client sends then is answered as any segment of no connection
//
// A SYN opens a new connection at once, in all modes. Who sends nothing is asked to: see poke.go.

// evictedMs is how long a connection that was reset stays, so that its other end hears of it too:
// IPVS's time for state Close.
const evictedMs = 10_000

// part decides about a client's packet whose connection's backend keeps none: it was evicted or is
// no longer configured.
//
//go:noinline
func (p *Processor) evictedInbound(f *Frame, t *conn.Table, k conn.Key, c *conn.Conn, be *Backend) {
	m := &f.meta
	switch {
	case !be.Evict:
		f.drop(counter.BackendGone)
	case !be.resets(c) || m.TCPFlags&(packet.SYN|packet.RST|packet.ACK) == packet.SYN:
		p.reopen(f, t, k, c)
	default:
		p.evict(c)
		p.reset(f)
		c.Flags |= conn.ClientReset
	}
}

// resets says that the ends of the evicted backend's connection are told by RST.
func (be *Backend) resets(c *conn.Conn) bool {
	return c.Flags&conn.IsUDP == 0 && be.Mode.RepliesThroughUs()
}

// reopen forgets the connection and treats the packet as one of none.
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

// evict ends a connection that both ends are still to be told of.
func (p *Processor) evict(c *conn.Conn) {
	if c.State != conn.Close {
		p.enter(c, conn.Close)
		c.Expires = p.now + evictedMs
	}
}

// reset answers a TCP packet of an evicted connection. There is no limit to that: the sender is one
// whom we know, it gets no more than it sends, and many are waiting for it at once.
func (p *Processor) reset(f *Frame) {
	m := &f.meta
	if m.TCPFlags&packet.RST != 0 {
		f.drop(counter.BackendGone)
		return
	}
	rewrite.TCPReset(f.Mem, m)
	p.sendBack(f)
}

// parted is reply's question about a connection in state Close: it decides about a packet from an
// evicted backend, and reports whether it has.
//
//go:noinline
func (p *Processor) evictedReply(f *Frame, c *conn.Conn) bool {
	be := &p.t.Backends[c.Backend]
	if !be.Evict || c.Flags&conn.IsUDP != 0 {
		return false
	}
	p.reset(f)
	c.Flags |= conn.BackendReset
	return true
}
