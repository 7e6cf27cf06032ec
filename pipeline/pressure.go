package pipeline

import (
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
)

// Anyone can send SYNs and datagrams from addresses that are not theirs. So that such a flood stays
// where it lands, a connection is unproven until the other side has taken part (conn.Proven):
//
//	TCP nat fullnat  the client has sent an ACK after the backend's SYN-ACK
//	UDP nat fullnat  the backend has sent a datagram
//	tun dr           the client has sent a packet a second or more after the first
//
// The unproven connections of a service are a part, at most, of the capacity that proven ones leave
// (Service.Unproven). Beyond that a new one takes the place of the oldest. Likewise, if the table
// is full, it takes the place of the oldest connection of any service that has ended (TIME_WAIT,
// CLOSE) or, if there is none, of the oldest that is unproven. A proven connection is never removed
// for another.
//
// What finds no place even so is forwarded untracked in tun and dr: by the scheduler if that is a
// hash, else by a hash of the client. A segment in the middle of such a connection is adopted as
// soon as there is space, for a minute after the service last had none (adopt.go). A change of the
// backends may move those that are still without an entry. In nat and fullnat it is dropped.
//
// The ports of fullnat are divided in the same way: in each SNAT pool, a service's unproven
// connections have at most the same part of the ports that proven ones leave (freePortFor).
//
// From half full on, connections that are unproven or have ended are removed before their timeouts
// end: the fuller the table, the earlier (Processor.shedOld). Removing them so early that they may
// still be in use, or finding none, is pressure on the service (mayBeInUse). Short connections and
// single datagrams of ordinary clients make none while the table has space for those of the last
// two seconds: in tun and dr, a FIN ends an unproven connection (conn.Conn.Ended).

// provenUnitShift is the unit of time in which a connection of mode tun or dr notes when it was
// opened, and provenUnits how many must begin until a packet proves it: a second or more.
const (
	provenUnitShift = 8 // log2 of milliseconds
	provenUnits     = 5
)

// repeatsBits is the number of low bits of conn.Extra that are not of openedAt: see repeatsMask.
const repeatsBits = 3

// openedAt returns the present time as a connection of mode tun or dr notes it in conn.Extra.
func (p *Processor) openedAt() uint16 { return uint16(p.now >> provenUnitShift << repeatsBits) }

// disposable is where a connection is that was unproven or had ended at a time. By now the slot may
// have another one, which has a disposable of its own.
type disposable struct {
	slot uint32 // with disposable6 in an IPv6 table
	ms   uint32
	of   uint16 // clientTag of the connection
}

const disposable6 = 1 << 31

// disposables are connections that are unproven, or those that have ended, from the oldest on. If
// there are more than it has space for, the oldest are left to the sweep.
type disposables struct {
	all        []disposable // by number, modulo the length, a power of two
	first, end uint32       // numbers of the oldest and of the next one; they wrap
}

// disposablesMost bounds the memory of disposables. In a flood of a million packets per second a
// connection still has 60 ms to become proven.
const disposablesMost = 1 << 16

func newDisposables(entries int) disposables {
	n := 64
	for n < 2*entries && n < disposablesMost {
		n *= 2
	}
	return disposables{all: make([]disposable, n)}
}

// at returns the connection of a number.
func (d *disposables) at(number uint32) *disposable {
	return &d.all[number&uint32(len(d.all)-1)]
}

// pop removes the oldest one and returns it. There must be one.
func (d *disposables) pop() disposable {
	d.first++
	return *d.at(d.first - 1)
}

// add adds a connection.
func (d *disposables) add(one disposable) {
	*d.at(d.end) = one
	if d.end++; d.end-d.first > uint32(len(d.all)) {
		d.first++
	}
}

// noteDisposable adds a connection of the table that is unproven, or has ended, now.
func (p *Processor) noteDisposable(d *disposables, t *conn.Table, c *conn.Conn) {
	slot := t.Slot(c)
	if t == p.v6 {
		slot |= disposable6
	}
	d.add(disposable{slot, p.now, clientTag(t, c)})
	p.fullMs = ^p.now
}

// clientTag returns 16 bits of the client's address and port, which differ between nearly all
// connections that have the same slot one after the other.
func clientTag(t *conn.Table, c *conn.Conn) uint16 {
	a := t.Client(c)
	return uint16(a.Lo) ^ uint16(a.Lo>>16) ^ c.ClientPort()
}

// began counts a new connection, which is unproven.
func (p *Processor) began(t *conn.Table, c *conn.Conn) {
	p.addUnproven(c, 1)
	p.noteDisposable(&p.unproven, t, c)
}

// addUnproven adds an unproven connection to the counts of the table and of its SNAT pool, or takes
// it from them.
func (p *Processor) addUnproven(c *conn.Conn, by int32) {
	p.tally.AddUnproven(c.Service(), by)
	if pool := p.poolOf(c); pool != nil {
		pool.AddUnproven(c.Service(), by)
	}
}

// addProven is addUnproven for a proven connection.
func (p *Processor) addProven(c *conn.Conn, by int32) {
	p.tally.AddProven(by)
	if pool := p.poolOf(c); pool != nil {
		pool.AddProven(by)
	}
}

// uncount removes a connection from the counts of proven and unproven ones.
func (p *Processor) uncount(c *conn.Conn) {
	switch {
	case c.Ended():
	case c.Flags&conn.Proven != 0:
		p.addProven(c, -1)
	default:
		p.addUnproven(c, -1)
	}
}

// endsOrReturns counts a connection that enters a state, if that means that it ends, or lives again
// after it had ended.
func (p *Processor) endsOrReturns(c *conn.Conn, next conn.State) {
	d := &p.unproven
	if c.EndedIn(next) {
		p.uncount(c)
		c.Flags &^= conn.Proven
		d = &p.ended
	} else {
		p.addUnproven(c, 1)
	}
	t := p.v4
	if !t.Has(c) {
		t = p.v6
	}
	p.noteDisposable(d, t, c)
}

// proves reports whether a client's packet that reaches an unproven connection now makes it proven.
func (p *Processor) proves(c *conn.Conn) bool {
	if c.Flags&conn.NoOutput != 0 {
		return p.openedAt()-c.Extra&^repeatsMask >= provenUnits<<repeatsBits && !c.State.Ending()
	}
	return c.State == conn.Established && c.Flags&conn.SeenReply != 0
}

// Unproven returns the worker's part of the number of unproven connections of a service. Their sum
// is right when all workers have been asked at the same time.
func (p *Processor) Unproven(id uint32) int {
	if p.worker == 0 {
		return p.tally.Unproven(id)
	}
	return p.tally.Unpublished(id)
}

// prove makes an unproven connection proven. One that counts as ended since the client sent FIN, in
// tun and dr, has not ended then: the client still receives.
func (p *Processor) prove(c *conn.Conn) {
	if !c.Ended() {
		p.addUnproven(c, -1)
	}
	c.Flags |= conn.Proven
	p.addProven(c, 1)
}

// admit reports whether a new connection of the service may have an entry in the table. If needed,
// it removes one that is unproven, has ended or has expired. If it finds none, it looks for one
// again when a connection ends or the time goes on.
func (p *Processor) admit(f *Frame, t *conn.Table, id uint32) bool {
	part := p.t.Services[id].Unproven
	if p.fullMs == p.now && p.share.Free == 0 {
		p.noRoom(f, id)
		return false
	}
	if p.tally.Admits(id, part) && (p.share.Free > 0 || p.share.Grow()) {
		return true
	}
	inUse := p.displacedInUse
	if p.replace(t, id, part) {
		if p.displacedInUse != inUse {
			p.noteFull(f)
		}
		return true
	}
	if p.tally.Admits(id, part) || p.tally.AllProven() {
		p.fullMs = p.now
	}
	p.noRoom(f, id)
	return false
}

// noRoom counts a new connection that may have no entry.
func (p *Processor) noRoom(f *Frame, id uint32) {
	p.noteFull(f)
	p.tally.Press(id, p.now)
	if s := &p.t.Services[id]; s.Adopt || s.oneWay {
		p.refusals(id).Untracked++
	}
}

// noteFull counts a new connection of the frame's service that found no free entry, or no free SNAT
// port.
func (p *Processor) noteFull(f *Frame) {
	p.refusals(f.service).FoundFull++
	p.Full.Add(f.service, f.meta.Src.Prefix())
}

// refused counts a packet that was dropped because it would open a connection and found no entry,
// or no SNAT port.
//
//go:noinline
func (p *Processor) refused(f *Frame) {
	if f.Reason == counter.SNATExhausted {
		p.noteFull(f)
		p.refusals(f.service).SNATExhausted++
		return
	}
	p.refusals(f.service).TableFull++
}

// replace removes a connection, so that a new one of the service may have an entry in the table. It
// reports whether it may.
func (p *Processor) replace(t *conn.Table, id, part uint32) bool {
	if p.borrowed != nil { // the table of a dry run is small, and for one connection
		return true
	}
	if !p.tally.Admits(id, part) && !p.dispose(id) {
		if t.SweepForOne(p.now); !p.tally.Admits(id, part) {
			return false
		}
	}
	// A sweep may leave connections to be reset (idle.go), which have ended then.
	return p.share.Free > 0 || p.share.Grow() || p.dispose(0) || t.SweepForOne(p.now) || p.dispose(0)
}

// disposeTries and staleTries bound how many connections dispose looks at: those that it leaves
// where they are, and all. Each of the rest makes the list shorter.
const (
	disposeTries = 8
	staleTries   = 64
)

// dispose removes the oldest connection that is unproven and of the service or, if service is 0,
// the oldest that has ended or, if none has, the oldest that is unproven. It reports whether it
// did.
func (p *Processor) dispose(service uint32) bool {
	return service == 0 && p.disposeFrom(&p.ended, 0) || p.disposeFrom(&p.unproven, service)
}

// disposeFrom removes the oldest connection of the list and, if service is not 0, of that service.
func (p *Processor) disposeFrom(d *disposables, service uint32) bool {
	left := 0
	for tries := 0; d.first != d.end && tries < staleTries && left < disposeTries; tries++ {
		at := d.pop()
		t, c := p.disposable(d, at)
		switch {
		case c == nil:
		case service != 0 && c.Service() != service, p.active(d, c, &at):
			d.add(at)
			left++
		default:
			if mayBeInUse(c, p.now-at.ms) {
				p.displacedInUse++
			}
			p.displace(t, c)
			return true
		}
	}
	return false
}

// mayBeInUse reports whether a connection that is unproven or has ended, and had its last packet
// idleMs ago, may still be of use, so that displacing it is a sign of pressure. One that has ended
// is not after shortestMs, nor is a client's only datagram: a DNS client in tun and dr sends no
// other, so that all its connections are unproven.
func mayBeInUse(c *conn.Conn, idleMs uint32) bool {
	return idleMs < shortestMs || !c.Ended() && c.Flags&conn.IsUDP == 0
}

// active reports whether an unproven connection has had a packet since it was added to the list,
// and sets the time to that of the packet. One that has ended is not active: nearly all have had
// another packet, such as the last ACK.
func (p *Processor) active(d *disposables, c *conn.Conn, at *disposable) bool {
	if d == &p.ended {
		return false
	}
	last := c.Expires - endedMs
	if c.State < conn.Idle {
		last = c.Expires - p.t.Services[c.Service()].TimeoutsMs[c.State]
	}
	if int32(last-at.ms) <= 0 {
		return false
	}
	at.ms = last
	return true
}

// displace removes a connection before its timeout.
func (p *Processor) displace(t *conn.Table, c *conn.Conn) {
	p.refusals(c.Service()).Displaced++
	p.Packets.Displaced++
	p.close(t, c)
	t.Remove(c)
}

// disposable returns the connection, nil if the list is not the one that it belongs to now.
func (p *Processor) disposable(d *disposables, at disposable) (*conn.Table, *conn.Conn) {
	t := p.v4
	if at.slot&disposable6 != 0 {
		t = p.v6
	}
	c := t.Connection(at.slot &^ disposable6)
	ended := d == &p.ended
	if c == nil || clientTag(t, c) != at.of || c.Ended() != ended || !ended && c.Flags&conn.Proven != 0 {
		return t, nil
	}
	return t, c
}

// How long a connection that is unproven or has ended may stay: from longestMs in a table that is
// half full down to shortestMs in a full one.
const (
	shortestMs = 2_000
	longestMs  = 120_000
	forever    = 1 << 31
)

// shedMost bounds how many connections of either kind one call of shedOld looks at.
const shedMost = 64

// shedOld removes connections that are unproven or have ended and are too old for how full the
// table is. Housekeeping calls it.
func (p *Processor) shedOld() {
	used := p.share.Used()
	if used < counter.Whole/4 {
		return
	}
	p.shed(&p.unproven, mostMs(used))
	p.shed(&p.ended, mostMs(used))
}

// shed removes connections of the list that are older than mostMs.
func (p *Processor) shed(d *disposables, mostMs uint32) {
	for tries := 0; d.first != d.end && tries < shedMost; tries++ {
		at := *d.at(d.first)
		t, c := p.disposable(d, at)
		if c != nil && p.now-at.ms < mostMs {
			return
		}
		d.pop()
		switch {
		case c == nil:
		case p.active(d, c, &at):
			d.add(at)
		default:
			p.displace(t, c)
		}
	}
}

// mostMs returns how long a connection that is unproven or has ended may stay in a table of which
// such a part is used.
func mostMs(used uint32) uint32 {
	if used < counter.Whole/2 {
		return forever
	}
	left := uint64(2 * (counter.Whole - used)) // of the half that makes the difference
	return shortestMs + uint32((longestMs-shortestMs)*left*left/counter.Whole/counter.Whole)
}
