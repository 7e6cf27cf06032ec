package pipeline

import (
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/rewrite"
)

// A receiver accepts an RST only with the sequence number that it expects (RFC 9293, 3.10.7.4; RFC
// 5961, 3.2), and connections here have no sequence numbers. So an end of a connection that was
// ended (eviction.go, idle.go), that waits for the other one and sends nothing that could be
// answered, gets an RST probe: a segment with an unacceptable sequence number. It answers with the
// right numbers, and then is reset.
//
//	probe    VIP -> client   ACK, sequence number out of window
//	answer   client -> VIP   ACK, with the client's own numbers (RFC 9293, 3.10.7.4)
//	reset    VIP -> client   RST, numbered by the answer; see reset
//
// Likewise towards the backend, which may be alive. If the number happens to be in the window, or a
// packet is lost, the RST included, the next round makes up for it: an end gets probes until it
// answers one with RST, because it has no such connection any more.

const (
	rstProbeRounds = 5
	// rstProbePauseMs is the least time between two probes of one end: Linux answers unacceptable
	// segments of a connection once in 500 ms (net.ipv4.tcp_invalid_ratelimit).
	rstProbePauseMs = 1000
	// rstProbeStep is the distance between the sequence numbers of two rounds, so that of three in
	// a row at most one is in a window, which is 2^30 at most (RFC 7323, 2.3).
	rstProbeStep = 1 << 32 / 3
	// rstProbeL3 is the offset of a probe's IP header in its chunk, behind space for a link header.
	rstProbeL3 = 128
	// rstProbeStride is how many slots are scanned between two checks for free frames.
	rstProbeStride = 16
)

// rstProbes is the state of a walk over the connection tables, in rounds. It begins when a backend
// is evicted, or lists of denied clients change.
type rstProbes struct {
	round  uint32 // from 1 to rstProbeRounds; 0: no walk
	began  uint32 // when the round began or will begin
	v6     bool   // the walk is in the IPv6 table
	lists  bool   // the walk ends connections of denied clients
	cursor uint32 // next slot
	frames []Frame
	n      int // frames made
	visit  func(*conn.Conn)
}

// evictsMore reports whether the tables evict a backend that old did not. old may be nil.
func (t *Tables) evictsMore(old *Tables) bool {
	var had []uint32
	if old != nil {
		had = old.evicted
	}
	for _, id := range t.evicted {
		for len(had) > 0 && had[0] < id {
			had = had[1:]
		}
		if len(had) == 0 || had[0] != id {
			return true
		}
	}
	return false
}

// startRSTProbes begins a walk over all connections.
func (p *Processor) startRSTProbes() {
	p.rstProbes.round, p.rstProbes.began, p.rstProbes.v6, p.rstProbes.cursor = 1, p.now, false, 0
}

// RSTProbesDue reports whether MakeRSTProbes has something to do now. Only the owning goroutine may
// call it.
func (p *Processor) RSTProbesDue() bool {
	_, idle := p.idleResets.next(p.now)
	_, doubted := p.doubts.next(p.now)
	return idle || doubted || p.rstProbes.walks(p.now)
}

// walks reports whether the walk has something to do now.
func (k *rstProbes) walks(nowMs uint32) bool { return k.round > 0 && int32(nowMs-k.began) >= 0 }

// MakeRSTProbes ends connections of evicted backends, by the tables that Housekeep was given last.
// It forgets flows and connections that are not reset, and puts a probe for each end of the others,
// and of connections in state Idle, into the first frames, with verdict Forward; the caller
// provides their Mem. SYNs that were refused come before them (refused_syn.go). It returns the
// number of packets. It scans about maxSlots slots, and stops early when fewer than two frames are
// free. Only the owning goroutine may call it.
func (p *Processor) MakeRSTProbes(frames []Frame, maxSlots int) int {
	k := &p.rstProbes
	k.frames, k.n = frames, 0
	p.repeatSYNs()
	p.probeDoubted()
	p.probeIdle()
	for maxSlots > 0 && k.walks(p.now) && len(frames) >= k.n+2 {
		slots := min(rstProbeStride, (len(frames)-k.n)/2)
		maxSlots -= slots
		k.cursor = p.rstProbeTable().Scan(k.cursor, slots, k.visit)
		if k.cursor == 0 {
			k.next()
		}
	}
	k.frames = nil
	p.Packets.Originated += uint64(k.n)
	return k.n
}

// rstProbeTable returns the table that the walk is in.
func (p *Processor) rstProbeTable() *conn.Table {
	if p.rstProbes.v6 {
		return p.v6
	}
	return p.v4
}

// next continues after the end of a table.
func (k *rstProbes) next() {
	if k.v6 = !k.v6; k.v6 {
		return
	}
	k.began += rstProbePauseMs
	k.lists = false // all were found in the first round
	if k.round++; k.round > rstProbeRounds {
		k.round = 0
	}
}

// rstProbeConn handles one entry.
func (p *Processor) rstProbeConn(c *conn.Conn) {
	if c.IsTemplate() || c.Expired(p.now) {
		return
	}
	be, t := &p.t.Backends[c.Backend], p.rstProbeTable()
	switch {
	case !be.Evict && c.State != conn.Ended && !p.endsDenied(t, c):
	case !be.resets(c) || !mayLast(c.State):
		p.close(t, c)
		t.Remove(c)
	default:
		p.evict(c)
		p.rstProbeEnds(t, c, p.rstProbes.round)
	}
}

// mayLast reports whether an end in this state may wait for the other one without limit. In the
// other states an end sends again by itself or has seen the end of the connection.
func mayLast(s conn.State) bool {
	return s == conn.Established || s == conn.FinWait || s == conn.CloseWait || s == conn.Close || s >= conn.Idle
}

// rstProbeEnds makes the probes of a round for the ends of the connection that may still have it.
func (p *Processor) rstProbeEnds(t *conn.Table, c *conn.Conn, round uint32) {
	if c.Flags&conn.ClientGone == 0 {
		p.rstProbeClient(t, c, round)
	}
	if c.Flags&conn.BackendGone == 0 {
		p.rstProbeBackend(t, c, round)
	}
}

// rstProbeClient makes the probe of a round for the client's end, if there is a way to it.
func (p *Processor) rstProbeClient(t *conn.Table, c *conn.Conn, round uint32) {
	client := t.Client(c)
	if link := p.linkToClient(client); link != nil {
		p.makeRSTProbe(link, round, p.t.Services[c.Service()].Addr, c.VIPPort(), client, c.ClientPort())
	}
}

// rstProbeBackend makes the probe of a round for the backend's end, if there is a way to it. The
// connection is one of nat or fullnat.
func (p *Processor) rstProbeBackend(t *conn.Table, c *conn.Conn, round uint32) {
	be := &p.t.Backends[c.Backend]
	if be.Unreach != counter.None {
		return
	}
	src, port := t.Client(c), c.ClientPort()
	if c.Flags&conn.Translated != 0 {
		src, port = p.t.Sources[c.Source].Addr, c.Extra
	}
	p.makeRSTProbe(&be.Link, round, src, port, be.Addr, c.BackendPort)
}

// linkToClient returns the link to a client, nil if there is none now.
func (p *Processor) linkToClient(client packet.Addr) *rewrite.Link {
	link, reason := p.t.Hops.Lookup(client)
	switch reason {
	case counter.None:
		return link
	case counter.NoNeighbour:
		p.NeighbourRequests.add(client)
		return p.neighbourHints.lookup(client)
	}
	return nil
}

// makeRSTProbe makes one probe of a round, 1 to rstProbeRounds.
func (p *Processor) makeRSTProbe(link *rewrite.Link, round uint32, src packet.Addr, srcPort uint16, dst packet.Addr, dstPort uint16) {
	k := &p.rstProbes
	f := &k.frames[k.n]
	k.n++
	m := packet.Meta{Src: src, Dst: dst, SrcPort: srcPort, DstPort: dstPort, Family: 6, L3: rstProbeL3}
	if dst.Is4() {
		m.Family = 4
	}
	seq := p.rstProbeSeq(round, src, srcPort, dst, dstPort)
	rewrite.TCPAck(f.Mem, &m, seq, ^seq)
	f.Start = rewrite.SetLink(f.Mem, &m, link)
	f.End, f.Port, f.Verdict = int(m.End), link.Port, Forward
}

// rstProbeSeq returns the sequence number of the probe of a round, and so the complement of its
// acknowledgement number. It is a hash, since the window of the receiver may be anywhere, and since
// only an end that got the probe should know it.
func (p *Processor) rstProbeSeq(round uint32, src packet.Addr, srcPort uint16, dst packet.Addr, dstPort uint16) uint32 {
	return uint32(p.seed.Hash(src, srcPort, packet.TCP)>>32^p.seed.Hash(dst, dstPort, packet.TCP)) + round*rstProbeStep
}
