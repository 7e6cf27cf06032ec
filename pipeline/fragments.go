package pipeline

import (
	"encoding/binary"

	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/flow"
	"sluice/pipeline/fragment"
	"sluice/pipeline/packet"
	"sluice/pipeline/rewrite"
	"sluice/pipeline/service"
)

// Fragments take the way of the flow that their packet belongs to. Each is sent on as it arrives:
//
//	receiver       hands it to the worker that the identity of the packet names, its keeper
//	keeper         knows the ports by the first fragment (package fragment), or lets it wait; then
//	               it notes them in front of the frame and hands it to the owner of the flow
//	owner          finds the connection and sends it on. Only a first fragment opens connections
//
// All fragments of a packet go over the same rings, so that followers come to the owner, and to
// every worker that is asked for the connection, after the first one. In nat and fullnat fragments
// get another identification: senders that become one may use the same one.
//
// A first fragment is processed as a whole packet would be, except where its length matters.

// noteBytes is the length of a note in front of a frame.
const noteBytes = 16

// newFragments makes what a Processor remembers of fragments.
func (p *Processor) newFragments(frames int) {
	if frames == 0 {
		frames = fragment.MinFrames
	}
	p.fragments = fragment.New(frames)
	p.fragmentID = uint32(p.seed.Hash(packet.Addr{Hi: ^uint64(0), Lo: uint64(p.worker)}, 0, 0))
	p.fragmentID += uint32(p.worker) - p.fragmentID%uint32(p.workers)
}

// nextFragmentID returns an identification that no other packet has which a worker has translated
// lately.
func (p *Processor) nextFragmentID() uint32 {
	p.fragmentID += uint32(p.workers)
	return p.fragmentID
}

// classifyFragment reads a frame that Parse refused as a fragment, so that f.meta describes its
// flow. It reports whether it has: if not, the frame waits, is handed over or dropped.
//
//go:noinline
func (p *Processor) classifyFragment(f *Frame) bool {
	m := &f.meta
	if f.Start < noteBytes { // no worker receives such a frame
		f.drop(counter.Fragment)
		return false
	}
	id, reason := packet.ParseFragment(f.Mem, f.Start, f.End, m)
	if reason != counter.None {
		f.drop(reason)
		return false
	}
	if f.Noted {
		p.readNote(f)
		return true
	}
	k := fragment.KeyOf(m, id)
	hash := k.Hash(p.seed)
	if p.workers > 1 && f.Hops == 0 {
		if keeper := flow.Owner(hash, p.workers); keeper != p.worker {
			p.handTo(f, keeper)
			f.Noted = false
			return false
		}
	}
	p.arriveAtKeeper(f)
	if m.Part == packet.First {
		n := fragment.Note{SrcPort: m.SrcPort, DstPort: m.DstPort, Proto: m.Proto, ID: p.nextFragmentID()}
		if !p.observing {
			n = p.fragments.Learn(hash, &k, n, p.now)
		}
		m.FragmentID = n.ID
		return true
	}
	n := p.fragments.Lookup(hash, &k, p.now)
	if n == nil {
		p.waitForFirst(f, hash, &k)
		return false
	}
	f.apply(n)
	return true
}

// arriveAtKeeper makes a frame that was handed to the keeper of its packet one that arrived here:
// it may be handed over again, to the owner of its flow.
func (p *Processor) arriveAtKeeper(f *Frame) {
	if p.observing || f.Hops != 1 {
		return
	}
	f.Hops = 0
	p.Packets.HandedIn++
	p.Packets.Rx-- // flows adds the frame
}

// waitForFirst lets a follower wait for the first fragment of its packet.
func (p *Processor) waitForFirst(f *Frame, hash uint64, k *fragment.Key) {
	if p.observing {
		f.drop(counter.Fragment)
		return
	}
	left, ok := p.fragments.Hold(hash, k, f.Mem[f.Start:f.End], f.Port, p.now)
	p.endWait(left, counter.FragmentFull)
	if !ok {
		f.drop(counter.FragmentFull)
		return
	}
	f.Verdict, f.kind = Hold, kindDone
}

// endWait drops so many followers that wait.
func (p *Processor) endWait(frames int, reason counter.Reason) {
	p.Packets.Waiting -= uint64(frames)
	p.Packets.Drops[reason] += uint64(frames)
}

// FragmentsReady reports whether ReleaseFragments has frames. Only the owning goroutine may call
// it.
func (p *Processor) FragmentsReady() bool { return p.fragments.Ready() }

// ReleaseFragments puts fragments that have waited for the first one of their packet into frames,
// for the next Process call, and returns their number. The caller provides the Mem of the frames,
// and the place of a received frame in it. Only the owning goroutine may call it.
func (p *Processor) ReleaseFragments(frames []Frame, start int) int {
	for i := range frames {
		f := &frames[i]
		length, port, n := p.fragments.Release(f.Mem[start:])
		if length == 0 {
			return i
		}
		f.Start, f.End, f.Port, f.Hops = start, start+length, port, 0
		f.Noted = true
		f.writeNote(&n)
		p.Packets.Waiting--
		p.Packets.Rx-- // Process adds the frame, which was received before
	}
	return len(frames)
}

// apply makes f.meta, of a follower, describe the flow of the packet.
func (f *Frame) apply(n *fragment.Note) {
	m := &f.meta
	m.Proto, m.FragmentID = n.Proto, n.ID
	if m.Part == packet.Later {
		m.SrcPort, m.DstPort = n.SrcPort, n.DstPort
	}
}

// noteFragment writes the note of a fragment in front of the frame, for the worker that it is
// handed to.
func (f *Frame) noteFragment() {
	m := &f.meta
	f.writeNote(&fragment.Note{SrcPort: m.SrcPort, DstPort: m.DstPort, Proto: m.Proto, ID: m.FragmentID})
	f.Noted = true
}

func (f *Frame) writeNote(n *fragment.Note) {
	b := f.Mem[f.Start-noteBytes : f.Start]
	binary.NativeEndian.PutUint64(b, uint64(n.SrcPort)<<48|uint64(n.DstPort)<<32|uint64(n.ID))
	b[8] = n.Proto
}

// readNote is apply for the note in front of a frame.
func (p *Processor) readNote(f *Frame) {
	b := f.Mem[f.Start-noteBytes : f.Start]
	x := binary.NativeEndian.Uint64(b)
	f.apply(&fragment.Note{SrcPort: uint16(x >> 48), DstPort: uint16(x >> 32), ID: uint32(x), Proto: b[8]})
}

// seeksConnection hands the first fragment of a flow that this worker does not know to the other
// workers in turn, and at last to one that the flow names, if the service's connections are with
// the workers that received them: fragments arrive elsewhere than whole packets of their flow. It
// reports whether it did.
func (p *Processor) seeksConnection(f *Frame, s *Service) bool {
	if s.Ownership != ByReceiver || p.workers == 1 || int(f.Hops) >= p.workers {
		return false
	}
	if int(f.Hops) < p.workers-1 {
		p.handTo(f, (p.worker+1)%p.workers)
		return true
	}
	m := &f.meta
	owner := flow.Owner(p.seed.Hash(m.Src, m.SrcPort, m.Proto), p.workers)
	if owner == p.worker {
		return false
	}
	p.handTo(f, owner)
	return true
}

// setFragmentID gives a first fragment that was translated the identification of its followers.
func (f *Frame) setFragmentID() {
	if f.meta.Part != packet.Whole {
		rewrite.SetID(f.Mem, &f.meta, f.meta.FragmentID)
	}
}

// forwardLater is forward for a follower.
func (p *Processor) forwardLater(f *Frame) {
	m, id := &f.meta, f.service
	t, s := p.table(m), &p.t.Services[id]
	k := conn.Key{Service: id, ClientPort: m.SrcPort, VIPPort: m.DstPort}
	c := t.Find(f.home, m.Src, k, p.now)
	if c == nil {
		p.laterOfNone(f, t, k, s)
		return
	}
	be := &p.t.Backends[c.Backend]
	if be.Evict || c.State >= conn.Idle {
		f.drop(counter.BackendGone)
		return
	}
	length := m.End - m.L3
	if !p.mayPass(f, be.Addr, be.Unreach, be.maxLength) {
		return
	}
	switch be.Mode {
	case service.NAT:
		p.countIn(c, length)
		rewrite.LaterNAT(f.Mem, m, m.Src, be.Addr, m.FragmentID)
		f.send(m, &be.Link)
	case service.FullNAT:
		p.countIn(c, length)
		rewrite.LaterNAT(f.Mem, m, p.t.Sources[c.Source].Addr, be.Addr, m.FragmentID)
		f.send(m, &be.Link)
	default:
		p.rewriteAndSend(f, c, be, length)
	}
}

// laterOfNone handles a follower of a client that this worker has no connection with. Its first
// fragment was forwarded by the hash, elsewhere, or not at all.
func (p *Processor) laterOfNone(f *Frame, t *conn.Table, k conn.Key, s *Service) {
	m := &f.meta
	if s.Ownership == ByFlowNow && p.handToFlowOwner(f, m.Src, m.SrcPort) || p.seeksConnection(f, s) {
		return
	}
	if s.Adopt || s.oneWay {
		if backend := p.untrackedBackend(t, m, k, s); backend != 0 {
			be := &p.t.Backends[backend]
			if p.mayPass(f, be.Addr, be.Unreach, be.maxLength) {
				p.forwardUntracked(f, backend)
			}
			return
		}
	}
	f.drop(counter.Fragment)
}

// mayPass reports whether a follower can be sent to dst. If not, it drops it: nothing but a first
// fragment is answered (RFC 1122, 3.2.2).
func (p *Processor) mayPass(f *Frame, dst packet.Addr, unreach counter.Reason, maxLength uint16) bool {
	m := &f.meta
	switch {
	case unreach != counter.None:
		p.unreachable(f, dst, unreach)
	case m.TTL <= 1:
		f.drop(counter.TTLExpired)
	case m.End-m.L3 > maxLength:
		f.drop(counter.TooBig)
	default:
		return true
	}
	return false
}

// replyLater is reply for a follower.
func (p *Processor) replyLater(f *Frame) {
	m := &f.meta
	t := p.table(m)
	c := p.findReply(t, f.home, m.Dst, m.DstPort, m.Src, m.SrcPort, m.Proto)
	if c == nil {
		if p.handReply(f) {
			return
		}
		p.strayLater(f)
		return
	}
	if c.State == conn.Close || c.State >= conn.Idle {
		f.drop(counter.BackendGone)
		return
	}
	client := clientOf(t, c, m.Dst)
	link, reason := p.linkTo(client)
	if reason != counter.None {
		p.unreachable(f, client, reason)
		return
	}
	if !p.mayPass(f, client, counter.None, link.MTU) {
		return
	}
	p.countOut(c, m.End-m.L3)
	rewrite.LaterNAT(f.Mem, m, p.t.Services[c.Service()].Addr, client, m.FragmentID)
	f.send(m, link)
}

// strayLater handles a follower from a backend that belongs to no connection: it goes where its
// first fragment went (stray), but is never answered.
func (p *Processor) strayLater(f *Frame) {
	m := &f.meta
	if p.t.strayOf(m.Src, m.SrcPort, m.Proto) == strayToKernel {
		p.toKernel(f, m.Src, m.Dst, counter.NoConnection)
		return
	}
	f.drop(counter.Fragment)
}
