package counter

// Packets counts the frames that one worker received or was handed, by their verdict. Only the
// worker accesses it; the control plane asks the worker for a copy.
type Packets struct {
	Rx        uint64 // frames from ports
	Forwarded uint64
	Replied   uint64 // frames turned into answers of Sluice
	ToKernel  uint64 // frames with packets that went to the kernel
	Waiting   uint64 // fragments that wait for the first one of their packet: they count later
	HandedOut uint64 // frames handed to another worker, which counts them then
	HandedIn  uint64
	Drops     [Count]uint64
	// LostInCrash: of Rx, frames that a former process had in its hands when it was killed, and
	// counted nowhere else
	LostInCrash uint64
	// Originated: frames that Sluice made and sent: not part of Rx = Forwarded + Replied + ToKernel
	// + Waiting + drops + LostInCrash
	Originated uint64
	ConnOpened uint64
	ConnClosed uint64
	// PortReusedEarly: fullnat connections from a port that another had less than a minute before
	PortReusedEarly uint64
	// Untracked: of Forwarded, those by a hash without a connection (Service.Adopt)
	Untracked uint64
	// Displaced: of ConnClosed, those that were unproven or had ended and were removed before their
	// timeouts, because the table filled
	Displaced uint64
	// Adopted: of ConnOpened, those by a segment in the middle of a connection
	Adopted uint64
	// IdleReset: connections with both ends reset because they were idle beyond their timeout
	IdleReset uint64
}

// Add adds another worker's counts to p.
func (p *Packets) Add(q *Packets) {
	p.Rx += q.Rx
	p.Forwarded += q.Forwarded
	p.Replied += q.Replied
	p.ToKernel += q.ToKernel
	p.Waiting += q.Waiting
	p.HandedOut += q.HandedOut
	p.HandedIn += q.HandedIn
	for i := range p.Drops {
		p.Drops[i] += q.Drops[i]
	}
	p.LostInCrash += q.LostInCrash
	p.Originated += q.Originated
	p.ConnOpened += q.ConnOpened
	p.ConnClosed += q.ConnClosed
	p.PortReusedEarly += q.PortReusedEarly
	p.Untracked += q.Untracked
	p.Adopted += q.Adopted
	p.Displaced += q.Displaced
	p.IdleReset += q.IdleReset
}

// Dropped returns the sum of all drops.
func (p *Packets) Dropped() (n uint64) {
	for _, d := range p.Drops {
		n += d
	}
	return n
}

// Backend counts the traffic of one backend at one worker, like Packets.
type Backend struct {
	Connections uint64 // opened since the start
	InPackets   uint64 // towards the backend
	InBytes     uint64 // of IP packets, as the client sent them
	OutPackets  uint64 // from the backend, through Sluice
	OutBytes    uint64
}

// Add adds another worker's counts to b.
func (b *Backend) Add(o *Backend) {
	b.Connections += o.Connections
	b.InPackets += o.InPackets
	b.InBytes += o.InBytes
	b.OutPackets += o.OutPackets
	b.OutBytes += o.OutBytes
}
