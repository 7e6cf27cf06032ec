package pipeline

import (
	"sluice/pipeline/flow"
	"sluice/pipeline/packet"
)

// Ownership says which worker keeps a service's connections.
type Ownership uint8

// The ownerships.
const (
	ByFlow     Ownership = iota // hash of client address, port, protocol: both directions meet there
	ByAddress                   // hash of the client address alone: persistence needs all its connections together
	ByPort                      // replies to fullnat: the local port says it
	ByReceiver                  // whoever received it: RSS keeps a flow together, and no reply needs the client's hash
	ByFlowNow                   // ByFlow, but ByReceiver before: who receives a packet may have its connection
)

// place finds the home of a frame whose client has this address and port, or gives the frame to the
// worker that owns the flow. The service is 0 if a backend sent the frame.
func (p *Processor) locate(f *Frame, client packet.Addr, port uint16, service uint32) {
	m := &f.meta
	hash := p.seed.Hash(client, port, m.Proto)
	if p.workers > 1 && f.Hops == 0 && !p.owns(hash, service) && p.handOver(f, hash, client, service) {
		return
	}
	f.home = p.table(m).Home(hash)
}

// isMine says that the worker has a client's flow for sure: what handOver would find out, but
// cheaper, for nearly all.
func (p *Processor) owns(hash uint64, service uint32) bool {
	own := p.t.Services[service].Ownership
	return service != 0 && (own == ByReceiver || own == ByFlow && flow.Owner(hash, p.workers) == p.worker)
}

// handOver gives a fresh frame to its owner if that is somebody else. A frame that was handed over
// already is processed where it is, so that two workers with different tables can't pass it back
// and forth.
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

// replyOwner says who owns the connection of a packet from a backend, or of the packet to a backend
// that an ICMP error embeds.
func (p *Processor) replyOwner(f *Frame) Ownership {
	backend, port, client, _ := f.backendFirst()
	switch {
	case p.t.isSource(client) && !p.t.portsByHash:
		return ByPort
	case p.t.isSource(client):
		return ByReceiver // most likely; else see passToPortOwner
	case p.t.sticksToAddress(backend, port, f.meta.Proto):
		return ByAddress
	}
	return ByFlow
}

// backendFirst gives the ends of a reply, or of the packet that an ICMP error to a client embeds:
// the backend's, and the one that the backend takes for its client's.
func (f *Frame) backendFirst() (backend packet.Addr, port uint16, client packet.Addr, clientPort uint16) {
	m := &f.meta
	if f.kind == kindICMPOut {
		return m.Dst, m.DstPort, m.Src, m.SrcPort
	}
	return m.Src, m.SrcPort, m.Dst, m.DstPort
}

// isMyReply is isMine for a backend's packet.
func (p *Processor) ownsReply(hash uint64) bool {
	return p.t.plainReplies && flow.Owner(hash, p.workers) == p.worker
}

// passToFlowOwner hands a client's fresh frame, or an ICMP error to its client, to the worker that
// owns its flow by the client's hash.
func (p *Processor) handToFlowOwner(f *Frame, client packet.Addr, port uint16) bool {
	owner := flow.Owner(p.seed.Hash(client, port, f.meta.Proto), p.workers)
	if f.Hops > 0 || owner == p.worker {
		return false
	}
	p.handTo(f, owner)
	return true
}

// portOwner says which worker has a local port towards a backend. If it is nobody's, there is no
// such worker.
func (p *Processor) portOwner(backend packet.Addr, port uint16, local packet.Addr, localPort uint16, proto uint8) int {
	if d := p.t.replyEndpoint(backend, port, proto); d != nil && d.shares != nil {
		return d.shares.Owner(d.shares.Base(backend, port, local), localPort)
	}
	return int(localPort) % p.workers
}

// passToPortOwner hands a backend's frame, fresh from the card and of no flow of ours, to the
// worker that has the local port. Only frames to ports that are shared out by the card's hash come
// here without being asked for their owner before: they are nearly always right.
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

func (p *Processor) handTo(f *Frame, worker int) {
	f.Verdict, f.Worker = HandOver, uint8(worker)
	f.Hops++
	f.kind = kindDone
}

// elsewhere hands a frame whose flow isn't known here to the next worker, if its service's flows
// may be there: flows that the receiver owns, for the card may deliver an ICMP error, or everything
// after its queues were rearranged, to another worker than the one that opened the connection; and
// flows from before their service was owned otherwise.
func (p *Processor) tryNextWorker(f *Frame, s *Service) bool {
	switch {
	case s.Moved:
		return p.handToNextWorker(f, p.workers) // the owner is asked first, whoever received it later
	case s.Ownership == ByReceiver:
		return p.handToNextWorker(f, p.workers-1)
	}
	return false
}

// passRound hands a frame to the next worker, unless so many had a hand in it already.
func (p *Processor) handToNextWorker(f *Frame, most int) bool {
	if p.workers == 1 || int(f.Hops) >= most {
		return false
	}
	p.handTo(f, (p.worker+1)%p.workers)
	return true
}
