package pipeline

import (
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/rewrite"
)

// A reset must be numbered as its receiver expects (RFC 9293, 3.10.7.4; RFC 5961, 3.2), and
// connections here have no numbers. So an end that waits for the other one, and sends nothing that
// could be answered, is poked: it gets a segment whose sequence number can't be, answers that with
// the right ones, and then is reset by them.
//
//	poke     VIP -> client   ACK, sequence number out of window
//	answer   client -> VIP   ACK, with the client's own numbers (RFC 9293, 3.10.7.4: "an acknowledgment should be sent")
//	reset    VIP -> client   RST, numbered by the answer; see reset
//
// Likewise towards the backend, which may be alive. A number that happens to be in the window, or a
// packet lost on the way, is made up for by the next round.
const (
	rstProbeRounds = 3
	// pokePauseMs is the least time between two pokes of one end: Linux answers a connection's
	// unacceptable segments once in 500 ms (net.ipv4.tcp_invalid_ratelimit).
	rstProbePauseMs = 1000
	// pokeStep tells the numbers of the rounds from each other by more than the largest window,
	// 2^30 (RFC 7323, 2.3).
	rstProbeStep = 1 << 32 / rstProbeRounds
	// pokeL3 is where in its chunk a poke's IP header is: any place with room for the link header.
	rstProbeL3 = 128
	// pokeStride is how many slots are looked at before the room for frames is.
	rstProbeStride = 16
)

// pokes is a walk over the connection tables, in rounds, that begins when a backend is evicted.
type rstProbes struct {
	round  uint32 // from 1 to pokeRounds; 0: there is nobody to poke
	began  uint32 // tick at which the round began, or will
	v6     bool   // the walk is in the IPv6 table
	cursor uint32 // slot that the walk goes on with
	frames []Frame
	n      int // frames made
	visit  func(*conn.Conn)
}

// evictsMore says that the tables evict a backend that old, which may be nil, did not.
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

// startPokes has all connections looked at from now on.
func (p *Processor) startRSTProbes() {
	p.rstProbes.round, p.rstProbes.began, p.rstProbes.v6, p.rstProbes.cursor = 1, p.now, false, 0
}

// RSTProbesDue says that connections of evicted backends are to be looked at now: that MakeRSTProbes has something
// to do.
func (p *Processor) RSTProbesDue() bool {
	return p.rstProbes.round > 0 && int32(p.now-p.rstProbes.began) >= 0
}

// MakeRSTProbes ends connections of evicted backends by the tables that Housekeep saw last. Flows and connections
// that need not be told are forgotten, the ends of others poked by the segments that it puts into
// the first frames, whose Mem are chunks of the caller's. It says how many those are. It looks at
// some maxSlots slots of the tables and ends early when it has no room for two frames.
func (p *Processor) MakeRSTProbes(frames []Frame, maxSlots int) int {
	k := &p.rstProbes
	k.frames, k.n = frames, 0
	for maxSlots > 0 && p.RSTProbesDue() && len(frames) >= k.n+2 {
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

// poked is the table that is being looked at.
func (p *Processor) rstProbeTable() *conn.Table {
	if p.rstProbes.v6 {
		return p.v6
	}
	return p.v4
}

// next goes on behind the end of a table.
func (k *rstProbes) next() {
	if k.v6 = !k.v6; k.v6 {
		return
	}
	k.began += rstProbePauseMs
	if k.round++; k.round > rstProbeRounds {
		k.round = 0
	}
}

// pokeConn looks at one entry.
func (p *Processor) rstProbeConn(c *conn.Conn) {
	if c.IsTemplate() || c.Expired(p.now) {
		return
	}
	be := &p.t.Backends[c.Backend]
	switch {
	case !be.Evict:
	case !be.resets(c) || !mayLast(c.State):
		t := p.rstProbeTable()
		p.close(t, c)
		t.Remove(c)
	default:
		p.evict(c)
		p.rstProbeEnds(c, be)
	}
}

// lasting says that an end may wait for the other one without end. Who has only begun or has seen
// the end will come by again, or doesn't care.
func mayLast(s conn.State) bool {
	return s == conn.Established || s == conn.FinWait || s == conn.CloseWait || s == conn.Close
}

// pokeEnds pokes those ends of the connection that have not been reset.
func (p *Processor) rstProbeEnds(c *conn.Conn, be *Backend) {
	client := p.rstProbeTable().Client(c)
	if c.Flags&conn.ClientReset == 0 {
		if link := p.linkToClient(client); link != nil {
			p.makeRSTProbe(link, p.t.Services[c.Service()].Addr, c.VIPPort(), client, c.ClientPort())
		}
	}
	if c.Flags&conn.BackendReset == 0 && be.Unreach == counter.None {
		src, port := client, c.ClientPort()
		if c.Flags&conn.Translated != 0 {
			src, port = p.t.Sources[c.Source].Addr, c.Extra
		}
		p.makeRSTProbe(&be.Link, src, port, be.Addr, c.BackendPort)
	}
}

// wayToClient is the link to a client, nil if there is none now.
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

// pokeEnd makes one poke.
func (p *Processor) makeRSTProbe(link *rewrite.Link, src packet.Addr, srcPort uint16, dst packet.Addr, dstPort uint16) {
	k := &p.rstProbes
	f := &k.frames[k.n]
	k.n++
	m := packet.Meta{Src: src, Dst: dst, SrcPort: srcPort, DstPort: dstPort, Family: 6, L3: rstProbeL3}
	if dst.Is4() {
		m.Family = 4
	}
	// Where the number lies is left to chance, since the receiver's window may be anywhere.
	seq := uint32(p.seed.Hash(dst, dstPort, packet.TCP)) + k.round*rstProbeStep
	rewrite.TCPAck(f.Mem, &m, seq, ^seq)
	f.Start = rewrite.SetLink(f.Mem, &m, link)
	f.End, f.Port, f.Verdict = int(m.End), link.Port, Forward
}
