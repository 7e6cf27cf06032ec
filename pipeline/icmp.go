package pipeline

import (
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/rewrite"
	"sluice/pipeline/service"
)

// icmpIn takes an ICMP error about a packet that went to a client to the backend that the packet came
// from.
func (p *Processor) icmpIn(b *Batch, i int) {
	f, m, id := &b.Frames[i], &b.meta[i], b.service[i]
	k := conn.Key{Service: id, ClientPort: m.DstPort, VIPPort: m.SrcPort}
	c := p.table(m).Find(b.home[i], m.Dst, k, p.now)
	if c == nil {
		s := &p.t.Services[id]
		if !p.elsewhere(b, i, s) && (s.Own != ByFlowNow || !p.passToFlowOwner(b, i, m.Dst, m.DstPort)) {
			b.drop(i, counter.ICMPNoFlow)
		}
		return
	}
	be := &p.t.Backends[c.Backend]
	if !be.keeps {
		b.drop(i, counter.BackendGone)
		return
	}
	if be.Unreach != counter.None || m.TTL <= 1 || m.End-m.L3 > be.room {
		p.undeliverable(b, i, be)
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

// icmpOut takes an ICMP error about a packet that went to a NAT or FullNAT backend to the client that the packet
// came from.
func (p *Processor) icmpOut(b *Batch, i int) {
	f, m := &b.Frames[i], &b.meta[i]
	t := p.table(m)
	c := p.findReply(t, b.home[i], m.Src, m.SrcPort, m.Dst, m.DstPort, m.Proto)
	if c == nil {
		if !p.passToPortOwner(b, i) && !(p.t.moved && p.passRound(b, i, p.workers)) {
			b.drop(i, counter.ICMPNoFlow)
		}
		return
	}
	client := m.Src
	if c.Flags&conn.Translated != 0 {
		client = t.Client(c)
	}
	link, reason := p.t.Hops.Lookup(client)
	switch {
	case reason != counter.None:
		p.unreachable(b, i, client, reason)
		return
	case m.TTL <= 1:
		b.drop(i, counter.TTLExpired)
		return
	case m.End-m.L3 > link.MTU:
		b.drop(i, counter.TooBig)
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
