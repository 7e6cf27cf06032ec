package pipeline

import (
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/rewrite"
	"sluice/pipeline/service"
)

// icmpIn sends an ICMP error about a packet to a client to the backend that sent the packet.
func (p *Processor) icmpIn(f *Frame) {
	m, id := &f.meta, f.service
	k := conn.Key{Service: id, ClientPort: m.DstPort, VIPPort: m.SrcPort}
	c := p.table(m).Find(f.home, m.Dst, k, p.now)
	if c == nil {
		p.icmpOfNone(f, k)
		return
	}
	be := &p.t.Backends[c.Backend]
	if be.Evict {
		f.drop(counter.BackendGone)
		return
	}
	if be.Unreach != counter.None || m.TTL <= 1 || m.End-m.L3 > be.maxLength {
		p.undeliverable(f, be)
		return
	}
	rewrite.DecTTL(f.Mem, m)
	switch be.Mode {
	case service.NAT:
		rewrite.ICMPIn(f.Mem, m, be.Addr, c.BackendPort)
	case service.FullNAT:
		rewrite.ICMPBoth(f.Mem, m, be.Addr, c.BackendPort, p.t.Sources[c.Source].Addr, c.Extra)
	case service.TUN:
		p.ipID++
		rewrite.Encap(f.Mem, m, be.Source, be.Addr, p.ipID)
	}
	f.send(m, &be.Link)
}

// icmpOfNone handles an ICMP error about a packet to a client that this worker has no connection
// with.
func (p *Processor) icmpOfNone(f *Frame, k conn.Key) {
	m, id := &f.meta, f.service
	s := &p.t.Services[id]
	if p.handMisplaced(f, m.Dst, k, s) || p.tryNextWorker(f, s) || s.Ownership == ByFlowNow && p.handToFlowOwner(f, m.Dst, m.DstPort) {
		return
	}
	if p.adopts(id, s) {
		if backend := p.hashed(id, s, m.Dst, m.DstPort, m.Src, m.SrcPort); backend != 0 {
			p.forwardUntracked(f, backend)
			return
		}
	}
	f.drop(counter.ICMPNoFlow)
}

// icmpOut sends an ICMP error about a packet to a nat or fullnat backend to the client that sent
// the packet.
func (p *Processor) icmpOut(f *Frame) {
	m := &f.meta
	t := p.table(m)
	c := p.findReply(t, f.home, m.Src, m.SrcPort, m.Dst, m.DstPort, m.Proto)
	if c == nil {
		if p.handReply(f) {
			return
		}
		p.strayError(f)
		return
	}
	client := clientOf(t, c, m.Src)
	link, reason := p.t.Hops.Lookup(client)
	switch {
	case reason != counter.None:
		p.unreachable(f, client, reason)
		return
	case m.TTL <= 1:
		f.drop(counter.TTLExpired)
		return
	case m.End-m.L3 > link.MTU:
		f.drop(counter.TooBig)
		return
	}
	rewrite.DecTTL(f.Mem, m)
	vip := p.t.Services[c.Service()].Addr
	if c.Flags&conn.Translated != 0 {
		rewrite.ICMPBoth(f.Mem, m, client, c.ClientPort(), vip, c.VIPPort())
	} else {
		rewrite.ICMPOut(f.Mem, m, vip, c.VIPPort())
	}
	f.send(m, link)
}
