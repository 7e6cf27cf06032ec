package pipeline

import "sluice/pipeline/conn"

// TookFastPath reports whether the fast path classified the frame.
func (f *Frame) TookFastPath() bool { return f.kind >= kindFastForward4 }

// OpenedFast reports whether the frame opened a connection on the fast path.
func (f *Frame) OpenedFast() bool { return f.kind == kindFastOpen4 || f.kind == kindFastOpen6 }

// ProcessSlow is Process for one frame without the fast path.
func (p *Processor) ProcessSlow(b *Batch, t *Tables, nowMs uint32) {
	if p.now = nowMs; p.t != t {
		p.useTables(t)
	}
	f, c := &b.Frames[0], p.Packets
	p.classifySlow(f)
	handedIn := c.HandedIn
	p.slowPath(f)
	c.Rx += 1 - (c.HandedIn - handedIn)
}

// Memory returns what a worker records besides its connections and counters: states of the first
// services, and neighbour hints.
func (p *Processor) Memory(services int) (all []any) {
	for id := range services {
		p.sched[id].Turn = p.turns.Of(uint32(id))
	}
	marked := uint64(0)
	for i, word := range p.marks {
		marked += word * uint64(i+1)
	}
	all = append(all, marked, p.sched[:services], p.answers, p.ipID, p.sourceTurn, p.NeighbourRequests)
	for i := range p.neighbourHints {
		if e := &p.neighbourHints[i]; e.link.MTU != 0 {
			all = append(all, e.client, e.link)
		}
	}
	return all
}

// CensusResult is the number of connections of all workers, by service id and in all.
type CensusResult struct {
	Unproven []int
	Proven   int
}

// Census returns what the workers have counted of their connections.
func Census(workers []*Processor) (r CensusResult) {
	first := workers[0].tally
	r.Unproven, r.Proven = make([]int, first.Services()), first.Proven()
	for id := range r.Unproven {
		r.Unproven[id] = first.Unproven(uint32(id))
		for _, p := range workers[1:] {
			r.Unproven[id] += p.tally.Unpublished(uint32(id))
		}
	}
	for _, p := range workers[1:] {
		r.Proven += p.tally.UnpublishedProven()
	}
	return r
}

// ProveAll makes all connections proven that have not ended.
func (p *Processor) ProveAll() {
	for _, t := range []*conn.Table{p.v4, p.v6} {
		for cursor, first := uint32(0), true; first || cursor != 0; first = false {
			cursor = t.Scan(cursor, 1<<20, func(c *conn.Conn) {
				if !c.IsTemplate() && !c.Ended() && c.Flags&conn.Proven == 0 {
					p.prove(c)
				}
			})
		}
	}
}
