package counter

// Packets counts what became of the frames that one worker received or was handed. Plain fields:
// only the worker touches them; the control plane asks the worker for a copy.
type Packets struct {
	Rx         uint64 // frames from ports
	Forwarded  uint64
	Replied    uint64 // frames turned into our own answers
	HandedOut  uint64 // frames given to another worker: counted there from then on
	HandedIn   uint64
	Drops      [Count]uint64
	Originated uint64 // frames sent that came from nobody: outside the identity
	ConnOpened uint64
	ConnClosed uint64
}

// Add sums another worker's counts into p.
func (p *Packets) Add(q *Packets) {
	p.Rx += q.Rx
	p.Forwarded += q.Forwarded
	p.Replied += q.Replied
	p.HandedOut += q.HandedOut
	p.HandedIn += q.HandedIn
	for i := range p.Drops {
		p.Drops[i] += q.Drops[i]
	}
	p.Originated += q.Originated
	p.ConnOpened += q.ConnOpened
	p.ConnClosed += q.ConnClosed
}

// Dropped is the sum of all drops.
func (p *Packets) Dropped() (n uint64) {
	for _, d := range p.Drops {
		n += d
	}
	return n
}

// Backend counts one backend's traffic at one worker: plain fields, as Packets.
type Backend struct {
	Connections uint64 // opened ever
	InPackets   uint64 // towards the backend
	InBytes     uint64 // of IP packets, as the client sent them
	OutPackets  uint64 // back through us
	OutBytes    uint64
}

// Add sums another worker's counts into b.
func (b *Backend) Add(o *Backend) {
	b.Connections += o.Connections
	b.InPackets += o.InPackets
	b.InBytes += o.InBytes
	b.OutPackets += o.OutPackets
	b.OutBytes += o.OutBytes
}
