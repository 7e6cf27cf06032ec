package pipeline

import (
	"encoding/binary"

	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/rewrite"
	"sluice/pipeline/snat"
)

// A backend answers a SYN by an ACK without SYN if it still has another connection from the port,
// most likely in TIME_WAIT (RFC 9293, 3.10.7.4). A client answers that ACK by RST, and sends its
// SYN again when a timer of its own ends. Fullnat does both itself, since the port is not the
// client's choice:
//
//	SYN   client -> backend   opens the connection; a copy is kept
//	ACK   backend -> source   refuses the SYN
//	RST   source -> backend   numbered as the ACK demands: what the backend had ends
//	SYN   source -> backend   the copy, from the same port
//
// A SYN that is refused again, or has no copy, is left to the client (changePort).
//
// Copies are kept only while a backend may have connections that this worker does not know of:
// snat.RestMs long from the start of the daemon, from each port that is reused early, and from each
// refusal. Only the SYN that opens a connection is copied: a later one may be forged, and must not
// end what the backend has.

const (
	// synCopiesMost is the number of copies, a power of two: more than a worker gets SYNs in the
	// time that a backend takes to answer.
	synCopiesMost = 4096
	// synCopyBytes is the maximum length of a copied packet: IPv6 and TCP headers with all options,
	// and 12 more.
	synCopyBytes = 112
	// synCopyMs is for how long a copy may be used: about as long as a client waits.
	synCopyMs = 2000
)

// synCopy is the SYN of a client that has opened a fullnat connection: two cache lines.
type synCopy struct {
	backend uint32
	ms      uint32 // when it arrived
	seq     uint32 // its number
	port    uint16 // SNAT port of the connection
	source  uint8
	length  uint8 // 0: there is no copy
	packet  [synCopyBytes]byte
}

// refusedSYN is a connection that gets the copy of its SYN sent again.
type refusedSYN struct {
	slot uint32
	v6   bool
}

// synCopies are the copies of the last SYNs, by port, and those that wait to be sent.
type synCopies struct {
	copies   []synCopy // empty in a dry run
	refused  [refusedMost]refusedSYN
	waiting  int  // in refused, from the first on
	kept     bool // copies are kept
	untilMs  uint32
	unending bool // untilMs is not known yet
}

// refusedMost bounds how many SYNs wait to be sent: a worker sends them in the turn in which they
// were refused.
const refusedMost = MaxBatch

func newSYNCopies() synCopies {
	return synCopies{copies: make([]synCopy, synCopiesMost), kept: true, unending: true}
}

// keepOn keeps copies for another minute.
func (s *synCopies) keepOn(nowMs uint32) {
	s.kept, s.unending, s.untilMs = len(s.copies) > 0, false, nowMs+snat.RestMs
}

// housekeep ends the keeping of copies when no backend should have unknown connections any more.
func (s *synCopies) housekeep(nowMs uint32) {
	switch {
	case s.unending:
		s.keepOn(nowMs)
	case s.kept && int32(nowMs-s.untilMs) >= 0:
		s.kept = false
	}
}

// at returns the place of a connection's copy. Ports are allocated in rising order, so that the
// oldest copy is overwritten.
func (s *synCopies) at(c *conn.Conn) *synCopy {
	const spread = 0x9e3779b9 // golden ratio: pools of different backends begin apart
	return &s.copies[(uint32(c.Extra)+(c.Backend<<8|uint32(c.Source))*spread>>8)%synCopiesMost]
}

// keepSYN copies the SYN that has opened a connection: the IP packet mem[l3:end], with TCP at l4.
//
//go:noinline
func (p *Processor) keepSYN(c *conn.Conn, mem []byte, l3, l4, end int) {
	if end-l3 > synCopyBytes || c.Flags&conn.IsUDP != 0 {
		return
	}
	s := p.syns.at(c)
	s.backend, s.ms, s.port, s.source, s.length = c.Backend, p.now, c.Extra, c.Source, uint8(end-l3)
	s.seq = binary.BigEndian.Uint32(mem[l4+4:])
	copy(s.packet[:], mem[l3:end])
}

// copyOf returns the copy of the SYN that has opened a connection, nil if there is none.
func (s *synCopies) copyOf(c *conn.Conn, nowMs uint32) *synCopy {
	if len(s.copies) == 0 {
		return nil
	}
	at := s.at(c)
	if at.length == 0 || at.port != c.Extra || at.backend != c.Backend || at.source != c.Source || nowMs-at.ms > synCopyMs {
		return nil
	}
	return at
}

// refusesSYN handles a segment of a backend if it refuses the SYN of a fullnat connection, and a
// copy of the SYN can be sent again. It reports whether it did: the segment has become a RST then.
// An acknowledgement of the SYN is no refusal: the backend has accepted it, and then got a copy of
// it that was late.
//
//go:noinline
func (p *Processor) refusesSYN(f *Frame, t *conn.Table, c *conn.Conn) bool {
	m, syns := &f.meta, &p.syns
	if m.TCPFlags&(packet.SYN|packet.RST|packet.FIN|packet.ACK) != packet.ACK {
		return false
	}
	if l := p.borrowed; l != nil {
		syns = &l.from.syns
	} else {
		syns.keepOn(p.now)
	}
	s := syns.copyOf(c, p.now)
	if s == nil || syns.waiting == len(syns.refused) || binary.BigEndian.Uint32(f.Mem[m.L4+8:]) == s.seq+1 {
		return false
	}
	if p.borrowed == nil {
		syns.refused[syns.waiting] = refusedSYN{t.Slot(c), t == p.v6}
		syns.waiting++
		if ref := p.sourceOf(c); ref != nil && ref.Configured {
			ref.Pools[p.worker].Leave(p.ports, c.Extra, p.t.Sources[ref.Source].Ports, p.now)
		}
	}
	rewrite.TCPReset(f.Mem, m)
	p.sendBack(f)
	return true
}

// SYNsDue reports whether MakeRSTProbes has SYNs to send again. Only the owning goroutine may call
// it.
func (p *Processor) SYNsDue() bool { return p.syns.waiting > 0 }

// repeatSYNs makes the SYNs that were refused again, as long as there are frames. What remains is
// left to the clients.
func (p *Processor) repeatSYNs() {
	k, q := &p.rstProbes, &p.syns
	for _, at := range q.refused[:q.waiting] {
		if k.n == len(k.frames) {
			break
		}
		t := p.v4
		if at.v6 {
			t = p.v6
		}
		if c := t.At(at.slot); c.State == conn.SynRecv && c.Flags&(conn.Translated|conn.SeenReply) == conn.Translated {
			if s := q.copyOf(c, p.now); s != nil && p.repeatSYN(&k.frames[k.n], s, c) {
				k.n++
			}
		}
	}
	q.waiting = 0
}

// repeatSYN puts a copy of a SYN into a frame, as it was received, and forwards it. It reports
// whether there is a way to the backend. The copy is used up.
func (p *Processor) repeatSYN(f *Frame, s *synCopy, c *conn.Conn) bool {
	be, length := &p.t.Backends[c.Backend], int(s.length)
	s.length = 0
	f.Start, f.End = rstProbeL3-packet.EthernetLen, rstProbeL3+length
	ethertype := uint16(packet.EtherTypeIPv4)
	if !be.Addr.Is4() {
		ethertype = packet.EtherTypeIPv6
	}
	binary.BigEndian.PutUint16(f.Mem[rstProbeL3-2:], ethertype)
	copy(f.Mem[rstProbeL3:], s.packet[:length])
	if packet.Parse(f.Mem, f.Start, f.End, &f.meta) != counter.None || be.Unreach != counter.None || be.Evict || uint16(length) > be.maxLength {
		return false
	}
	p.rewriteAndSend(f, c, be, uint16(length))
	return true
}
