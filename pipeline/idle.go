package pipeline

import (
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
)

// An end of a TCP connection that only waits, as ssh or a subscriber does, does not know that the
// connection has been idle beyond its timeout. So where replies pass through Sluice, an ESTABLISHED
// connection that expires is not removed at once: it stays in state Idle for endedMs, and both ends
// are reset like those of an evicted connection (eviction.go, rst_probe.go). A SYN opens a new
// connection at once.
//
// A worker begins answersPerSecond such resets per second. The other connections are removed, and
// an end that sends later gets a RST as for any segment of no connection (answer.go). In tun and
// dr, where only the client can be reset, so it is with all.

// idleResetsMost bounds how many connections wait for RST probes. It has space for those of the
// time of all rounds and a burst, and is a power of two, since numbers wrap.
const idleResetsMost = 8192

// idleResets are the connections in state Idle that RST probes are made for.
type idleResets struct {
	probeQueue
	limit counter.Limiter
}

// beginIdleReset puts an expired connection into state Idle if its ends are to be reset, and
// reports whether it did.
func (p *Processor) beginIdleReset(t *conn.Table, c *conn.Conn) bool {
	r := &p.idleResets
	if c.State != conn.Established || c.Flags&conn.NoOutput != 0 || !p.t.Services[c.Service()].ResetIdle ||
		p.borrowed != nil || r.full() || !r.limit.Allow(p.now, answersPerSecond, answersPerSecond) {
		return false
	}
	p.end(c, conn.Idle)
	p.Packets.IdleReset++
	r.add(t.Slot(c), t == p.v6, p.now)
	return true
}

// probeIdle makes the RST probes that are due for connections in state Idle, as long as there are
// frames.
func (p *Processor) probeIdle() {
	r, k := &p.idleResets, &p.rstProbes
	for len(k.frames) >= k.n+2 {
		round, ok := r.next(p.now)
		if !ok {
			return
		}
		if t, c := p.queued(r.take(round, p.now)); c.State == conn.Idle {
			p.rstProbeEnds(t, c, uint32(round)+1)
		}
	}
}
