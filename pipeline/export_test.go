package pipeline

// Expressed says that the frame took the express lane to its end, or at least to where it left it.
func (f *Frame) TookFastPath() bool { return f.kind >= kindFastForward4 }

// Opened says that the frame opened a connection in the express lane.
func (f *Frame) OpenedFast() bool { return f.kind == kindFastOpen4 || f.kind == kindFastOpen6 }

// ProcessOrdinary is Process for one frame without the express lane.
func (p *Processor) ProcessSlow(b *Batch, t *Tables, nowMs uint32) {
	if p.now = nowMs; p.t != t {
		p.useTables(t)
	}
	f, c := &b.Frames[0], &p.Packets
	handedIn := c.HandedIn
	p.classifySlow(f)
	p.slowPath(f)
	c.Rx += 1 - (c.HandedIn - handedIn)
}

// Memory is what a worker remembers besides its connections and counters: of the first so many
// services, and of clients that it heard of.
func (p *Processor) Memory(services int) (all []any) {
	all = append(all, p.sched[:services], p.answers, p.ipID, p.sourceTurn, p.NeighbourRequests)
	for i := range p.neighbourHints {
		if e := &p.neighbourHints[i]; e.link.MTU != 0 {
			all = append(all, e.client, e.link)
		}
	}
	return all
}
