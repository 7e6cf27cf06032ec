package snat

import "math/bits"

// Pool is one worker's ports of a source towards one backend address and port. It belongs to that
// worker's goroutine, except while it is made. Its memory is from the worker's Memory, and follows
// use: only ports that are not ready take any.
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
	layout    *layout
	root      *root      // nil: all ports are ready
	spent     [16]uint64 // bit per word: no port in it is ready and open
	open      *PortSet   // ports that may be allocated; the pool may have others, which are not
	readyOpen int        // open ports that are ready
	inUse     int        // allocated ports
	taken     int        // ports that are not ready
	queue     releases   // open ports that rest, or have rested lately
	proven    int32      // see census.go
	unproven  [censusCells]int32
	Position
}

// Position is where the search for a ready port begins.
type Position struct {
	next  uint16 // after the port allocated last
	began uint16 // the search has come from here without a leap
	leaps uint8
}

// newPool makes a pool of the layout's ports, of which those in open may be allocated. The first to
// be allocated is the first from start on.
func newPool(l *layout, open *PortSet, start uint16) *Pool {
	p := &Pool{layout: l, Position: Position{next: start, began: start}}
	p.use(open)
	return p
}

// use makes open the ports that may be allocated, while none rests.
func (p *Pool) use(open *PortSet) {
	p.open, p.readyOpen = open, 0
	for w := range p.layout.words {
		p.readyOpen += bits.OnesCount64(p.readyIn(w))
		p.updateSpent(w)
	}
}

// Forget makes all ports ready that rest. It takes some nanoseconds for each.
func (p *Pool) Forget(m *Memory) {
	for p.queue.length > 0 {
		p.makeReady(m, p.queue.pop(p))
	}
}

// Free returns the number of ports that can be allocated, if those in open may be. If these are
// others than before, connections keep the ports that they have, and which ports rest is forgotten.
func (p *Pool) Free(m *Memory, open *PortSet) int {
	if p.open != open {
		p.Forget(m)
		p.use(open)
	}
	if m.isEmpty() {
		return 0
	}
	return p.readyOpen + int(p.queue.length)
}

// InUse returns the number of allocated ports.
func (p *Pool) InUse() int { return p.inUse }

// Has reports whether the port is one of the pool's.
func (p *Pool) Has(port uint16) bool { return p.layout.words[port>>6].has(port) }

// Claim allocates a port that is ready, for a connection that has it already, and reports whether
// it could.
func (p *Pool) Claim(m *Memory, port uint16) bool {
	w := int(port >> 6)
	bit := uint64(1) << (port & 63)
	if p.ready(w)&bit == 0 || m.isEmpty() {
		return false
	}
	p.take(m, port)
	state := p.state(w)
	state.ready &^= bit
	state.used |= bit
	p.updateSpent(w)
	if p.open.Has(port) {
		p.readyOpen--
	}
	p.inUse++
	return true
}

// Bind records the table slot of the connection that has an allocated port.
func (p *Pool) Bind(port uint16, slot uint32) { *p.slot(port) = bound | slot }

// Lookup returns the table slot of the connection that has the port. ok is false if the port is
// free or not in the pool.
func (p *Pool) Lookup(port uint16) (slot uint32, ok bool) {
	w := &p.layout.words[port>>6]
	if p.root == nil || !w.has(port) {
		return 0, false
	}
	i := w.index(port)
	page := p.root.pages[i/portsPerPage]
	if page == nil {
		return 0, false
	}
	slot = page.slots[i%portsPerPage]
	return slot &^ bound, slot&bound != 0
}

// NoSlot is no table slot.
const NoSlot = bound - 1

// InUseFrom returns the first allocated port from port on, cyclically, and the table slot of its
// connection; NoSlot if it has none. The pool must have an allocated port.
func (p *Pool) InUseFrom(port uint16) (found uint16, slot uint32) {
	w := int(port >> 6)
	used := p.used(w) >> (port & 63) << (port & 63)
	for used == 0 {
		w = (w + 1) % len(p.layout.words)
		used = p.used(w)
	}
	found = uint16(w<<6 + bits.TrailingZeros64(used))
	if slot, ok := p.Lookup(found); ok {
		return found, slot
	}
	return found, NoSlot
}

// used returns the ports in a word that are allocated.
func (p *Pool) used(w int) uint64 {
	if block := p.root.words[w/wordsPerBlock]; block != nil {
		return block.state[w%wordsPerBlock].used
	}
	return 0
}

// Next returns the port at which the search for a ready port begins.
func (p *Pool) Next() uint16 { return p.next }

// GoOnFrom makes the search go on at a port.
func (p *Pool) GoOnFrom(port uint16) { p.next = port }

// slot returns where the table slot of a port is recorded that is not ready.
func (p *Pool) slot(port uint16) *uint32 {
	i := p.layout.words[port>>6].index(port)
	return &p.root.pages[i/portsPerPage].slots[i%portsPerPage]
}

// take gives a port memory before it is no longer ready.
func (p *Pool) take(m *Memory, port uint16) {
	if p.root == nil {
		p.root = m.roots.take()
	}
	w := int(port >> 6)
	block := &p.root.words[w/wordsPerBlock]
	if *block == nil {
		*block = m.words.take()
		first := w / wordsPerBlock * wordsPerBlock
		for i := range (*block).state {
			state := &(*block).state[i]
			state.used, state.ready = 0, p.layout.words[first+i].ours
		}
	}
	page := &p.root.pages[p.layout.words[w].index(port)/portsPerPage]
	if *page == nil {
		*page = m.pages.take()
	}
	(*block).taken++
	(*page).taken++
	p.taken++
}

// giveBack returns to the memory what no port needs now that one more is ready.
func (p *Pool) giveBack(m *Memory, port uint16) {
	w := int(port >> 6)
	block, page := &p.root.words[w/wordsPerBlock], &p.root.pages[p.layout.words[w].index(port)/portsPerPage]
	if (*page).taken--; (*page).taken == 0 {
		m.pages.give(*page)
		*page = nil
	}
	if (*block).taken--; (*block).taken == 0 {
		m.words.give(*block)
		*block = nil
	}
	if p.taken--; p.taken == 0 {
		m.roots.give(p.root)
		p.root = nil
	}
}

// state returns the ports in a word that are in use, and those that are ready. It must have one
// that is neither.
func (p *Pool) state(w int) *struct{ used, ready uint64 } {
	return &p.root.words[w/wordsPerBlock].state[w%wordsPerBlock]
}

// ready returns the ports in a word that are ready.
func (p *Pool) ready(w int) uint64 {
	if p.root != nil {
		if block := p.root.words[w/wordsPerBlock]; block != nil {
			return block.state[w%wordsPerBlock].ready
		}
	}
	return p.layout.words[w].ours
}

// readyIn returns the ports in a word that are ready and open.
func (p *Pool) readyIn(w int) uint64 { return p.ready(w) & p.open[w] }

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
func (p *Pool) Alloc(m *Memory, open *PortSet, nowMs uint32) (port uint16, early, ok bool) {
	if p.Free(m, open) == 0 {
		return 0, false, false
	}
	if p.wake(m, nowMs); p.readyOpen == 0 {
		port, early = p.queue.pop(p), true
	} else {
		port = p.readyFrom(p.next)
		p.take(m, port)
		w := int(port >> 6)
		p.state(w).ready &^= 1 << (port & 63)
		p.updateSpent(w)
		p.readyOpen--
		p.next = port + 1
	}
	p.state(int(port >> 6)).used |= 1 << (port & 63)
	p.inUse++
	return port, early, true
}

// wakes is how many ports wake makes ready: more than Alloc takes.
const wakes = 2

// wake makes ports that have rested ready.
func (p *Pool) wake(m *Memory, nowMs uint32) {
	for i := 0; i < wakes && p.queue.length > 0 && !p.queue.headRests(nowMs); i++ {
		p.makeReady(m, p.queue.pop(p))
	}
}

// makeReady makes an open port ready.
func (p *Pool) makeReady(m *Memory, port uint16) {
	w := int(port >> 6)
	p.state(w).ready |= 1 << (port & 63)
	p.updateSpent(w)
	p.readyOpen++
	p.giveBack(m, port)
}

// Peek returns the port that Alloc would allocate now after n others. It allocates none.
func (p *Pool) Peek(m *Memory, open *PortSet, n int, nowMs uint32) (port uint16, ok bool) {
	if n >= p.Free(m, open) {
		return 0, false
	}
	if p.wake(m, nowMs); n < p.readyOpen {
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
	at := (w + 1) % len(p.layout.words)
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
func (p *Pool) Release(m *Memory, port uint16, idleMs, nowMs uint32) {
	state := p.state(int(port >> 6))
	state.used &^= 1 << (port & 63)
	*p.slot(port) = 0
	p.inUse--
	switch {
	case !p.open.Has(port):
		state.ready |= 1 << (port & 63)
		p.giveBack(m, port)
	case idleMs < RestMs:
		p.queue.push(p, port, nowMs)
	default:
		p.makeReady(m, port)
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
func (p *Pool) Leave(m *Memory, port uint16, open *PortSet, nowMs uint32) bool {
	if p.Free(m, open) == 0 {
		return false
	}
	if p.wake(m, nowMs); p.readyOpen == 0 {
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
		w = (w + 1) % len(p.layout.words)
		ready = p.readyIn(w)
	}
	for ; n > 0; n-- {
		ready &= ready - 1
	}
	return uint16(w<<6 + bits.TrailingZeros64(ready))
}

// Rewind returns to a position: it undoes Leave.
func (p *Pool) Rewind(to Position) { p.Position = to }
