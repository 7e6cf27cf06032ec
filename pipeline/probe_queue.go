package pipeline

import "sluice/pipeline/conn"

// probeQueue holds connections that RST probes are made for in rounds, a pause apart, in the order
// in which they were added. Numbers of connections are counted from the start, and wrap.
type probeQueue struct {
	conns  []queuedConn // by number, modulo the length, a power of two; empty in a dry run
	rounds int
	added  uint32 // number of the next one
	// taken: by round: number of the first one that the round has not reached
	taken [rstProbeRounds]uint32
}

// queuedConn is where a connection is. If the entry has been removed since, another connection may
// be there, which gets more probes than it needs.
type queuedConn struct {
	slot    uint32
	beganMs uint32 // when it was added
	dueMs   uint32 // when its next round is
	v6      bool
}

func newProbeQueue(rounds, most int) probeQueue {
	return probeQueue{conns: make([]queuedConn, most), rounds: rounds}
}

// at returns the connection of a number.
func (q *probeQueue) at(number uint32) *queuedConn {
	return &q.conns[number%uint32(len(q.conns))]
}

// full reports whether there is no space for one more.
func (q *probeQueue) full() bool {
	return int(q.added-q.taken[q.rounds-1]) >= len(q.conns)
}

// add adds a connection of a table. The queue must not be full.
func (q *probeQueue) add(slot uint32, v6 bool, nowMs uint32) {
	*q.at(q.added) = queuedConn{slot: slot, v6: v6, beganMs: nowMs, dueMs: nowMs}
	q.added++
}

// next returns the round, from 0 on, that is due next; ok is false if none is due now.
func (q *probeQueue) next(nowMs uint32) (round int, ok bool) {
	end := q.added
	for round, number := range q.taken[:q.rounds] {
		if number != end && int32(nowMs-q.at(number).dueMs) >= 0 {
			return round, true
		}
		end = number
	}
	return 0, false
}

// take takes the next connection of a round that next has returned.
func (q *probeQueue) take(round int, nowMs uint32) *queuedConn {
	at := q.at(q.taken[round])
	q.taken[round]++
	at.dueMs = nowMs + rstProbePauseMs
	return at
}

// queued returns a queued connection and its table.
func (p *Processor) queued(at *queuedConn) (*conn.Table, *conn.Conn) {
	t := p.v4
	if at.v6 {
		t = p.v6
	}
	return t, t.At(at.slot)
}
