package pipeline

import (
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
)

// A stray is a packet from the endpoint of a nat or fullnat backend that belongs to no connection
// of any worker. What becomes of it depends on the endpoint:
const (
	// strayAnswered: TCP from the only port of a backend is of a connection that has ended here.
	// RST is the answer, so that the backend forgets it too.
	strayAnswered = 1 + iota
	// strayToKernel: a nat backend may have sent the packet of its own accord, to anyone, through
	// its gateway. It is the kernel's, as if it had not come here. So is UDP from the only port of
	// a backend: a late reply looks like a question.
	strayToKernel
)

// strayOf returns what becomes of strays from an endpoint; 0: they are dropped.
func (t *Tables) strayOf(a packet.Addr, port uint16, proto uint8) uint32 {
	if what := t.strays.Get(a, port, proto); what != 0 {
		return what
	}
	return t.strays.Get(a, 0, proto)
}

// stray answers a stray, gives it to the kernel or drops it. A SYN alone is not answered: it is not
// of a connection that has ended.
func (p *Processor) stray(f *Frame) {
	m := &f.meta
	switch what := p.t.strayOf(m.Src, m.SrcPort, m.Proto); {
	case what == strayToKernel:
		p.toKernel(f, m.Src, m.Dst, counter.NoConnection)
	case what == strayAnswered && m.TCPFlags&(packet.SYN|packet.ACK) != packet.SYN:
		p.refuse(f)
	default:
		f.drop(counter.NoConnection)
	}
}

// strayError handles an ICMP error about a packet to a backend that no worker has sent. If the
// answer to that packet would be the kernel's, so is the error.
func (p *Processor) strayError(f *Frame) {
	m := &f.meta
	if p.t.strayOf(m.Dst, m.DstPort, m.Proto) == strayToKernel {
		p.toKernel(f, m.Dst, m.Src, counter.ICMPNoFlow)
		return
	}
	f.drop(counter.ICMPNoFlow)
}

// toKernel gives the kernel a packet that comes from a backend, or from a router on the way to it.
// It drops the packet for the reason if it arrived elsewhere than the route to the backend leads:
// the kernel does not know the port, and so cannot filter by it. It also drops packets to a peer
// that fullnat sends from: they are Sluice's in any case.
func (p *Processor) toKernel(f *Frame, backend, peer packet.Addr, reason counter.Reason) {
	m := &f.meta
	hop, ok := p.t.Hops.NextHop(backend)
	if !ok || hop.Port != f.Port || hop.VLAN != m.VLAN || p.t.isSource(peer) {
		f.drop(reason)
		return
	}
	f.Start, f.End = int(m.L3), int(m.End)
	f.Verdict, f.Reason = ToKernel, reason
	f.kind = kindDone
}
