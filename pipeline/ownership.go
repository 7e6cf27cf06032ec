package pipeline

import (
	"sluice/pipeline/flow"
	"sluice/pipeline/packet"
)

// Ownership is the rule by which a worker owns the connections of a service.
type Ownership uint8

// The ownerships.
const (
	// ByFlow: by the hash of client address, port and protocol, which is the same in both
	// directions
	ByFlow Ownership = iota
	// ByAddress: by the hash of the client address alone: persistence needs all connections of a
	// client together
	ByAddress
	ByPort // replies of fullnat: by the local port
	// ByReceiver: the worker that received it: RSS keeps a flow together, and no reply needs the
	// client's hash
	ByReceiver
	// ByFlow, but ByReceiver before: the receiver may have the connection
	ByFlowNow
)

// hashed returns the worker that owns a client's flow by a hash; ok is false if the receiver owns
// it.
func (o Ownership) hashed(seed *flow.Seed, client packet.Addr, port uint16, proto uint8, workers int) (worker int, ok bool) {
	switch o {
	case ByFlow, ByFlowNow:
		return flow.Owner(seed.Hash(client, port, proto), workers), true
	case ByAddress:
		return flow.Owner(seed.Hash(client, 0, proto), workers), true
	}
	return 0, false
}

// locate sets the home of a frame of the client with this address and port, or hands the frame to
// the worker that owns the flow. service is 0 if a backend sent the frame.
func (p *Processor) locate(f *Frame, client packet.Addr, port uint16, service uint32) {
	m := &f.meta
	hash := p.seed.Hash(client, port, m.Proto)
	if p.workers > 1 && f.Hops == 0 && !p.owns(hash, service) && p.handOver(f, hash, client, service) {
		return
	}
	f.home = p.table(m).Home(hash)
}

// owns reports whether this worker certainly owns a client's flow. It is a cheaper test than
// handOver, and true for nearly all frames.
func (p *Processor) owns(hash uint64, service uint32) bool {
	own := p.t.Services[service].Ownership
	return service != 0 && (own == ByReceiver || own == ByFlow && flow.Owner(hash, p.workers) == p.worker)
}

// handOver hands a frame to its owner if that is another worker, and reports whether it did. The
// frame must not have been handed over before: such a frame is processed where it is, so that two
// workers with different tables cannot pass it back and forth.
func (p *Processor) handOver(f *Frame, hash uint64, client packet.Addr, service uint32) bool {
	var own Ownership
	if service != 0 {
		own = p.t.Services[service].Ownership
	} else {
		own = p.replyOwner(f)
	}
	switch own {
	case ByReceiver, ByFlowNow:
		return false
	case ByAddress:
		hash = p.seed.Hash(client, 0, f.meta.Proto)
	}
	owner := flow.Owner(hash, p.workers)
	if own == ByPort {
		_, _, _, port := f.backendFirst()
		owner = int(port) % p.workers
	}
	if owner == p.worker {
		return false
	}
	p.handTo(f, owner)
	return true
}

// replyOwner returns the ownership of the connection that a packet from a backend belongs to, or
// that an ICMP error is about if it embeds a packet to a backend.
func (p *Processor) replyOwner(f *Frame) Ownership {
	backend, port, client, _ := f.backendFirst()
	switch {
	case p.t.isSource(client) && !p.t.portsByHash:
		return ByPort
	case p.t.isSource(client):
		return ByReceiver // nearly always; otherwise handToPortOwner hands it over
	case p.t.sticksToAddress(backend, port, f.meta.Proto):
		return ByAddress
	}
	return ByFlow
}

// backendFirst returns the two ends of a reply, or of the packet to a backend that an ICMP error
// embeds: the backend, and the end that the backend takes for its client.
func (f *Frame) backendFirst() (backend packet.Addr, port uint16, client packet.Addr, clientPort uint16) {
	m := &f.meta
	if f.kind == kindICMPOut {
		return m.Dst, m.DstPort, m.Src, m.SrcPort
	}
	return m.Src, m.SrcPort, m.Dst, m.DstPort
}

// ownsReply is owns for a packet from a backend.
func (p *Processor) ownsReply(hash uint64) bool {
	return p.t.plainReplies && flow.Owner(hash, p.workers) == p.worker
}

// handToFlowOwner hands a frame to the worker that owns the flow of the client by its hash, and
// reports whether it did. It hands over only frames that come from a NIC port.
func (p *Processor) handToFlowOwner(f *Frame, client packet.Addr, port uint16) bool {
	owner := flow.Owner(p.seed.Hash(client, port, f.meta.Proto), p.workers)
	if f.Hops > 0 || owner == p.worker {
		return false
	}
	p.handTo(f, owner)
	return true
}

// portOwner returns the worker that has a local port towards a backend, or a number above all
// workers if none has it.
func (p *Processor) portOwner(backend packet.Addr, port uint16, local packet.Addr, localPort uint16, proto uint8) int {
	if d := p.t.replyEndpoint(backend, port, proto); d != nil && d.owners != nil {
		return d.owners.Owner(d.owners.Base(backend, port, local), localPort)
	}
	return int(localPort) % p.workers
}

// handToPortOwner hands a backend's frame, which belongs to no connection of this worker, to the
// worker that has the local port, and reports whether it did. Frames to ports that are divided by
// the hash of the NIC arrive without a hand-over before, and nearly always at the right worker.
func (p *Processor) handToPortOwner(f *Frame) bool {
	backend, port, local, localPort := f.backendFirst()
	if p.workers == 1 || f.Hops > 0 || !p.t.isSource(local) {
		return false
	}
	owner := p.portOwner(backend, port, local, localPort, f.meta.Proto)
	if owner == p.worker || owner >= p.workers {
		return false
	}
	p.handTo(f, owner)
	return true
}

// handReply hands a backend's frame that belongs to no connection of this worker to one that may
// have it. It reports whether it did.
func (p *Processor) handReply(f *Frame) bool {
	return p.handToPortOwner(f) || p.t.moved && p.handToNextWorker(f, p.workers)
}

// handTo sets the verdict of a frame that goes to another worker.
func (p *Processor) handTo(f *Frame, worker int) {
	if f.Noted = f.meta.Part != packet.Whole; f.Noted {
		f.noteFragment()
	}
	f.Verdict, f.Worker = HandOver, uint8(worker)
	f.Hops++
	f.kind = kindDone
}

// tryNextWorker hands a frame of an unknown flow to the next worker if that one may know it, and
// reports whether it did. A service's flows may be at other workers if the receiver owns them,
// because the NIC may deliver an ICMP error, or everything after a change of its queues, to another
// worker than the one that opened the connection; and if they were opened under another ownership.
func (p *Processor) tryNextWorker(f *Frame, s *Service) bool {
	switch {
	case s.Moved:
		return p.handToNextWorker(f, p.workers) // the owner was tried first
	case s.Ownership == ByReceiver:
		return p.handToNextWorker(f, p.workers-1)
	}
	return false
}

// handToNextWorker hands a frame to the next worker, unless it has been handed over as often as
// most allows. It reports whether it did.
func (p *Processor) handToNextWorker(f *Frame, most int) bool {
	if p.workers == 1 || int(f.Hops) >= most {
		return false
	}
	p.handTo(f, (p.worker+1)%p.workers)
	return true
}
