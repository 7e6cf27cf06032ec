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
// dr, where only the client can be reset, so it is with all. A full table removes connections in
// state Idle for new ones.

// idleResetsMost bounds how many connections wait for RST probes. It has space for those of the
// time of all rounds and a burst, and is a power of two, since numbers wrap.
const idleResetsMost = 8192

// idleResets are the connections in state Idle that RST probes are made for, in the order in which
// they expired. Numbers of connections are counted from the start, and wrap.
type idleResets struct {
	conns []idleConn // by number, modulo the length; empty in a dry run
	began uint32     // number of the next one
	freed uint32     // number of the first one that may be removed for a new connection
	limit counter.Limiter
	// probed: by round: number of the first one without a probe of the round
	probed [rstProbeRounds]uint32
}

// idleConn is where a connection in state Idle is. If the entry has been removed since, another
// Idle connection may be there, which gets more probes than it needs.
type idleConn struct {
	slot    uint32
	beganMs uint32
	v6      bool
}

// at returns the connection of a number.
func (r *idleResets) at(number uint32) *idleConn {
	return &r.conns[number%uint32(len(r.conns))]
}

// due returns the round, from 0 on, of the probes that are to be made next; ok is false if none are
// due now.
func (r *idleResets) due(nowMs uint32) (round int, ok bool) {
	end := r.began
	for round, next := range r.probed {
		if next != end && int32(nowMs-r.at(next).beganMs) >= int32(round)*rstProbePauseMs {
			return round, true
		}
		end = next
	}
	return 0, false
}

// beginIdleReset puts an expired connection into state Idle if its ends are to be reset, and
// reports whether it did.
func (p *Processor) beginIdleReset(t *conn.Table, c *conn.Conn) bool {
	r := &p.idleResets
	if c.State != conn.Established || c.Flags&conn.NoOutput != 0 || !p.t.Services[c.Service()].ResetIdle ||
		int(r.began-r.probed[rstProbeRounds-1]) >= len(r.conns) || !r.limit.Allow(p.now, answersPerSecond, answersPerSecond) {
		return false
	}
	p.enter(c, conn.Idle)
	p.Packets.IdleReset++
	c.Expires = p.now + endedMs
	*r.at(r.began) = idleConn{slot: t.Slot(c), beganMs: p.now, v6: t == p.v6}
	r.began++
	return true
}

// idleTries bounds how many connections freeIdle looks at.
const idleTries = 64

// freeIdle removes the connection that has been in state Idle for longest, and reports whether it
// found one. It looks at each connection once.
func (p *Processor) freeIdle() bool {
	r := &p.idleResets
	if most := uint32(len(r.conns)); r.began-r.freed > most {
		r.freed = r.began - most
	}
	for tries := 0; r.freed != r.began && tries < idleTries; tries++ {
		at := r.at(r.freed)
		r.freed++
		t := p.idleTable(at)
		if c := t.At(at.slot); c.State == conn.Idle {
			p.close(t, c)
			t.Remove(c)
			return true
		}
	}
	return false
}

// idleTable returns the table that has the connection.
func (p *Processor) idleTable(at *idleConn) *conn.Table {
	if at.v6 {
		return p.v6
	}
	return p.v4
}

// probeIdle makes the RST probes that are due for connections in state Idle, as long as there are
// frames.
func (p *Processor) probeIdle() {
	r, k := &p.idleResets, &p.rstProbes
	for len(k.frames) >= k.n+2 {
		round, ok := r.due(p.now)
		if !ok {
			return
		}
		at := r.at(r.probed[round])
		r.probed[round]++
		t := p.idleTable(at)
		if c := t.At(at.slot); c.State == conn.Idle {
			p.rstProbeEnds(t, c, uint32(round)+1)
		}
	}
}
