package snat

import "math/bits"

// Pool is one worker's ports of a source towards one backend address and port. It belongs to that
// worker's goroutine, except while it is made.
//
// A free port is ready or rests. It rests for RestMs after its release, unless that was long after
// its last packet: the backend may still have that connection, most likely in TIME_WAIT, and refuse
// another from the same port. All other free ports are ready, those that were never allocated
// included. Alloc takes ready ports in rising order, cyclically. If none is ready, it takes the one
// that rests for the longest time.
//
// The order is that of the numbers, so that those of the last minute are in one stretch: a pool
// that is made after a restart, and knows nothing of them, leaves the stretch in one leap (Leave).
type Pool struct {
	words [1024]portWord
	ready [1024]uint64 // bit per port: ready
	spent [16]uint64   // bit per word: no port in it is ready and open
	// slots: by index among the pool's ports: table slot of the connection that has the port; of a
	// port that rests, the port released after it
	slots     []uint32
	open      *PortSet // ports that may be allocated; the pool may have others, which are not
	readyOpen int      // open ports that are ready
	inUse     int      // allocated ports
	queue     releases // open ports that rest, or have rested lately
	Position
}

// Position is where the search for a ready port begins.
type Position struct {
	next  uint16 // after the port allocated last
	began uint16 // the search has come from here without a leap
	leaps uint8
}

// portWord is what a look-up needs of 64 ports: the first two have a bit per port.
type portWord struct {
	ours   uint64
	used   uint64 // allocated
	before uint64 // number of our ports in the words before
}

// newPool makes a pool of the ports that are mine, of which those in open may be allocated. The
// first to be allocated is the first from start on. mine returns the ports of the pool among the 64
// from 64*w on.
func newPool(open *PortSet, start uint16, mine func(w int) uint64) *Pool {
	p := &Pool{Position: Position{next: start, began: start}}
	ours := 0
	for w := FirstPort >> 6; w < len(p.words); w++ {
		word := mine(w)
		p.words[w] = portWord{ours: word, before: uint64(ours)}
		ours += bits.OnesCount64(word)
	}
	p.slots = make([]uint32, ours)
	p.follow(open)
	return p
}

// follow makes open the ports that may be allocated. Connections keep the ports that they have.
// Which ports rest is forgotten. It takes some microseconds.
func (p *Pool) follow(open *PortSet) {
	p.open, p.readyOpen, p.queue.length = open, 0, 0
	for w := range p.words {
		p.ready[w] = p.words[w].ours &^ p.words[w].used
		p.readyOpen += bits.OnesCount64(p.readyIn(w))
		p.updateSpent(w)
	}
}

// Free returns the number of ports that can be allocated, if those in open may be.
func (p *Pool) Free(open *PortSet) int {
	if p.open != open {
		p.follow(open)
	}
	return p.readyOpen + int(p.queue.length)
}

// InUse returns the number of allocated ports.
func (p *Pool) InUse() int { return p.inUse }

// Has reports whether the port is one of the pool's.
func (p *Pool) Has(port uint16) bool { return p.words[port>>6].ours>>(port&63)&1 != 0 }

// Claim allocates a port that is ready, for a connection that has it already, and reports whether
// it could.
func (p *Pool) Claim(port uint16) bool {
	w := int(port >> 6)
	bit := uint64(1) << (port & 63)
	if p.ready[w]&bit == 0 {
		return false
	}
	p.ready[w] &^= bit
	p.updateSpent(w)
	if p.open.Has(port) {
		p.readyOpen--
	}
	p.words[w].used |= bit
	p.inUse++
	return true
}

// Bind records the table slot of the connection that has an allocated port.
func (p *Pool) Bind(port uint16, slot uint32) { *p.slot(port) = slot }

// Lookup returns the table slot of the connection that has the port. ok is false if the port is
// free or not in the pool.
func (p *Pool) Lookup(port uint16) (slot uint32, ok bool) {
	w := &p.words[port>>6]
	if w.ours&w.used>>(port&63)&1 == 0 {
		return 0, false
	}
	return p.slots[w.index(port)], true
}

// slot returns where the table slot of a port is recorded.
func (p *Pool) slot(port uint16) *uint32 { return &p.slots[p.words[port>>6].index(port)] }

// index returns how many ports of the pool are below port, which is one of them.
func (w *portWord) index(port uint16) int {
	return int(w.before) + bits.OnesCount64(w.ours&(1<<(port&63)-1))
}

// readyIn returns the ports in a word that are ready and open.
func (p *Pool) readyIn(w int) uint64 { return p.ready[w] & p.open[w] }

// updateSpent sets the bit of a word in spent.
func (p *Pool) updateSpent(w int) {
	if p.readyIn(w) == 0 {
		p.spent[w>>6] |= 1 << (w & 63)
	} else {
		p.spent[w>>6] &^= 1 << (w & 63)
	}
}

// Alloc allocates the next free port among those in open; ok is false if there is none. early
// reports that the port has not rested. It reads at most 20 words of memory, and more only if open
// is another set than in the call before.
func (p *Pool) Alloc(open *PortSet, nowMs uint32) (port uint16, early, ok bool) {
	if p.Free(open) == 0 {
		return 0, false, false
	}
	if p.wake(nowMs); p.readyOpen == 0 {
		port, early = p.queue.pop(p), true
	} else {
		port = p.readyFrom(p.next)
		w := int(port >> 6)
		p.ready[w] &^= 1 << (port & 63)
		p.updateSpent(w)
		p.readyOpen--
		p.next = port + 1
	}
	p.words[port>>6].used |= 1 << (port & 63)
	p.inUse++
	return port, early, true
}

// wakes is how many ports wake makes ready: more than Alloc takes.
const wakes = 2

// wake makes ports that have rested ready.
func (p *Pool) wake(nowMs uint32) {
	for i := 0; i < wakes && p.queue.length > 0 && !p.queue.headRests(nowMs); i++ {
		p.makeReady(p.queue.pop(p))
	}
}

// makeReady makes an open port ready.
func (p *Pool) makeReady(port uint16) {
	w := int(port >> 6)
	p.ready[w] |= 1 << (port & 63)
	p.updateSpent(w)
	p.readyOpen++
}

// Peek returns the port that Alloc would allocate now after n others. It allocates none.
func (p *Pool) Peek(open *PortSet, n int, nowMs uint32) (port uint16, ok bool) {
	if n >= p.Free(open) {
		return 0, false
	}
	if p.wake(nowMs); n < p.readyOpen {
		for port = p.readyFrom(p.next); n > 0; n-- {
			port = p.readyFrom(port + 1)
		}
		return port, true
	}
	for port, n = p.queue.head, n-p.readyOpen; n > 0; n-- {
		port = uint16(*p.slot(port))
	}
	return port, true
}

// readyFrom returns the first port from port on, cyclically, that is ready and open. The pool must
// have one.
func (p *Pool) readyFrom(port uint16) uint16 {
	w := int(port >> 6)
	ready := p.readyIn(w) >> (port & 63) << (port & 63)
	if ready == 0 {
		w = p.wordAfter(w)
		ready = p.readyIn(w)
	}
	return uint16(w<<6 + bits.TrailingZeros64(ready))
}

// wordAfter returns the first word after w, cyclically, that has a port that is ready and open. The
// pool must have one.
func (p *Pool) wordAfter(w int) int {
	at := (w + 1) % len(p.words)
	block := ^p.spent[at>>6] >> (at & 63) << (at & 63)
	for i := at >> 6; ; {
		if block != 0 {
			return i<<6 + bits.TrailingZeros64(block)
		}
		i = (i + 1) % len(p.spent)
		block = ^p.spent[i]
	}
}

// Release frees an allocated port, idleMs after the last packet of its connection.
func (p *Pool) Release(port uint16, idleMs, nowMs uint32) {
	w := int(port >> 6)
	p.words[w].used &^= 1 << (port & 63)
	p.inUse--
	switch {
	case !p.open.Has(port):
		p.ready[w] |= 1 << (port & 63)
	case idleMs < RestMs:
		p.queue.push(p, port, nowMs)
	default:
		p.makeReady(port)
	}
}

// maxLeapShift bounds how much shorter than half of the ready ports a leap may be.
const maxLeapShift = 3

// Leave makes the search go on far from an allocated port that the backend refused, because it has
// a connection from there that this pool does not know: those of a daemon before this one are in
// one stretch of ports. It reports whether Alloc would then allocate a port that is ready. It reads
// the whole set of ports.
//
// The first leap passes over half of the ready ports: so it ends outside the stretch, if that has
// at most half of them. If a leap does not help, the next divides what it has left.
func (p *Pool) Leave(port uint16, open *PortSet, nowMs uint32) bool {
	if p.Free(open) == 0 {
		return false
	}
	if p.wake(nowMs); p.readyOpen == 0 {
		return false
	}
	if port-p.began >= p.next-p.began { // the search is elsewhere since the port was allocated
		return true
	}
	p.leaps++
	p.next = p.readyAfter(p.next, p.readyOpen>>(1+min(bits.TrailingZeros8(p.leaps), maxLeapShift)))
	p.began = p.next
	return true
}

// readyAfter returns the port that is ready and open after n such ports from port on, cyclically. n
// must be less than the number of such ports.
func (p *Pool) readyAfter(port uint16, n int) uint16 {
	w := int(port >> 6)
	ready := p.readyIn(w) >> (port & 63) << (port & 63)
	for {
		count := bits.OnesCount64(ready)
		if n < count {
			break
		}
		n -= count
		w = (w + 1) % len(p.words)
		ready = p.readyIn(w)
	}
	for ; n > 0; n-- {
		ready &= ready - 1
	}
	return uint16(w<<6 + bits.TrailingZeros64(ready))
}

// Rewind returns to a position: it undoes Leave.
func (p *Pool) Rewind(to Position) { p.Position = to }
