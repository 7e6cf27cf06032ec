package pipeline

// Expressed says that the frame took the express lane to its end, or at least to where it left it.
func (f *Frame) Expressed() bool { return f.kind >= kindExpress4 }

// Opened says that the frame opened a connection in the express lane.
func (f *Frame) Opened() bool { return f.kind == kindOpen4 || f.kind == kindOpen6 }

// ProcessOrdinary is Process for one frame without the express lane.
func (p *Processor) ProcessOrdinary(b *Batch, t *Tables, nowMs uint32) {
	if p.now = nowMs; p.t != t {
		p.adopt(t)
	}
	f, c := &b.Frames[0], &p.Packets
	handedIn := c.HandedIn
	p.sort(f)
	p.travel(f)
	c.Rx += 1 - (c.HandedIn - handedIn)
}

// Memory is what a worker remembers besides its connections and counters: of the first so many
// services, and of clients that it heard of.
func (p *Processor) Memory(services int) (all []any) {
	all = append(all, p.sched[:services], p.replies, p.ipID, p.sourceTurn, p.NeighbourRequests)
	for i := range p.heard {
		if e := &p.heard[i]; e.link.MTU != 0 {
			all = append(all, e.client, e.link)
		}
	}
	return all
}
