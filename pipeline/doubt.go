package pipeline

import (
	"encoding/binary"

	"sluice/pipeline/conn"
	"sluice/pipeline/packet"
)

// Anyone on the internet can send a RST, FIN or SYN with the addresses and ports of a connection.
// An end accepts it only with the right sequence number, one of 2^32 (RFC 9293, 3.10.7.4; RFC 5961,
// 3.2 and 4.2), but an entry has no space for numbers. So Sluice forwards such a segment and does
// what the ends do with it:
//
//	RST  nat, fullnat  The connection gets the flag Doubted, and the backend RST probes
//	                   (rst_probe.go). If the backend has no such connection any more, it answers
//	                   with RST, numbered as the probe demands: then the state changes to CLOSE.
//	                   Otherwise nothing has changed. A backend's RST is treated likewise.
//	     tun, dr       The same, but the client is asked, because the backend's answer would not
//	                   come here. Silence after three probes in as many seconds confirms the RST,
//	                   too: the client may have left, or a NAT before it may have forgotten it.
//	FIN  nat, fullnat  A client's FIN has no effect until the backend sends FIN, too.
//	     tun, dr       FIN_WAIT, and ESTABLISHED again when the client sends data.
//	SYN                ESTABLISHED stays, with its backend, in all modes. If the backend was
//	                   removed, see leavesRemoved; in tun and dr the SYN is doubted like a RST then.
//
// A stranger cannot confirm a forged RST in the place of the end that is asked: the number of the
// answer is a secret hash of the connection, one of 2^32 for each probe. A backend's FIN is
// believed: strangers must not be able to send from addresses of backends.
//
// A doubted connection takes part in the fast path like any other. Its timer is restarted by all
// segments but those that are doubted.

const (
	// doubtRounds is the number of RST probes for a doubted connection, and one round in which the
	// doubt ends.
	doubtRounds = 4
	// doubtsMost is how many connections can be doubted at once. It limits the RSTs that are
	// followed up to 10,000 a second, and is a power of two, since numbers wrap.
	doubtsMost = 1 << 15
)

// open states are those in which a connection can be used by both ends.
const openStates = 1<<conn.Established | 1<<conn.FinWait | 1<<conn.CloseWait

// doubtful reports whether a client's segment must be doubted: a RST, or a SYN where the client is
// the only end that can say whether it still has the connection to a removed backend.
func doubtful(c *conn.Conn, be *Backend, m *packet.Meta) bool {
	return m.TCPFlags&packet.RST != 0 ||
		m.TCPFlags&(packet.SYN|packet.ACK) == packet.SYN && !be.Configured && c.Flags&conn.NoOutput != 0 && c.State == conn.Established
}

// doubt reports whether a doubtful segment leaves the connection as it is, because it may be
// forged. from is its direction. While doubtsMost connections are doubted, a RST of a nat or
// fullnat client has no effect, and others are believed.
//
//go:noinline
func (p *Processor) doubt(f *Frame, t *conn.Table, c *conn.Conn, from conn.Direction) bool {
	if 1<<c.State&openStates == 0 {
		return false
	}
	doubted := c.Flags&conn.Doubted != 0
	switch {
	case from != conn.Input && p.answersRSTProbe(f):
		// If the doubt is over, it is as late as that: a new connection may be about to open.
		c.Flags &^= conn.Doubted
		return !doubted
	case doubted:
		return true
	case p.borrowed != nil: // a dry run has no queue
	case p.doubts.full():
		return from == conn.Input
	default:
		p.doubts.add(t.Slot(c), t == p.v6, p.now)
	}
	c.Flags |= conn.Doubted
	return true
}

// answersRSTProbe reports whether a RST has the number that is demanded by a RST probe to its
// sender.
func (p *Processor) answersRSTProbe(f *Frame) bool {
	m := &f.meta
	seq := binary.BigEndian.Uint32(f.Mem[m.L4+4:])
	for round := uint32(1); round < doubtRounds; round++ {
		if seq == ^p.rstProbeSeq(round, m.Dst, m.DstPort, m.Src, m.SrcPort) {
			return true
		}
	}
	return false
}

// probeDoubted makes the RST probes that are due for doubted connections, as long as there are
// frames, and ends the doubt after the last one.
func (p *Processor) probeDoubted() {
	d, k := &p.doubts, &p.rstProbes
	for tries := 4 * len(k.frames); tries > 0 && len(k.frames) >= k.n+2; tries-- {
		round, ok := d.next(p.now)
		if !ok {
			return
		}
		at := d.take(round, p.now)
		t, c := p.queued(at)
		if 1<<c.State&openStates == 0 || c.Flags&conn.Doubted == 0 {
			continue
		}
		switch {
		case round == doubtRounds-1:
			p.endDoubt(c, at.beganMs)
		case c.Flags&conn.NoOutput != 0:
			p.rstProbeClient(t, c, uint32(round)+1)
		default:
			p.rstProbeBackend(t, c, uint32(round)+1)
		}
	}
}

// endDoubt ends a doubt that no RST has confirmed. beganMs is when it began. A connection of tun or
// dr with a client that has been silent since is closed.
func (p *Processor) endDoubt(c *conn.Conn, beganMs uint32) {
	c.Flags &^= conn.Doubted
	timeouts := &p.t.Services[c.Service()].TimeoutsMs
	lastMs := c.Expires - timeouts[c.State]
	if c.Flags&conn.NoOutput == 0 || c.Ended() || int32(lastMs-beganMs) > 0 {
		return
	}
	p.enter(c, conn.Close)
	c.Expires = p.now + timeouts[conn.Close]
}

// disprovesFIN reports whether a segment of a tun or dr client shows that a FIN before it was
// forged: it has data. After a genuine one a client sends none, or its FIN again.
func disprovesFIN(f *Frame) bool {
	m := &f.meta
	return m.TCPFlags&(packet.SYN|packet.FIN|packet.RST|packet.ACK) == packet.ACK &&
		int(m.End-m.L4) > int(f.Mem[m.L4+12]>>4)*4
}
