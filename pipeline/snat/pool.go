package snat

import "math/bits"

// Pool is one worker's ports of a source towards one backend address and port. It belongs to that
// worker's goroutine, except while it is made.
type Pool struct {
	words [1024]portWord
	full  [16]uint64 // bit per word: no port in it is free
	// slots: by index among the pool's ports: table slot of the connection that has the port
	slots []uint32
	open  *PortSet // ports that may be allocated; the pool may have others, which are not
	free  int
	inUse int // allocated ports
	// next: the search begins here: after the port allocated last, so that a port is reused as late
	// as possible
	next uint16
}

// portWord is the state of 64 ports, one bit each.
type portWord struct {
	ours   uint64
	used   uint64 // allocated
	open   uint64 // ours that may be allocated
	before uint64 // number of our ports in the words before
}

// newPool makes a pool of the ports that are mine, of which those in open may be allocated. mine
// returns the ports of the pool among the 64 from 64*w on.
func newPool(open *PortSet, mine func(w int) uint64) *Pool {
	p := new(Pool)
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

// follow makes open the ports that may be allocated. Connections keep the ports that they have. It
// takes some microseconds.
func (p *Pool) follow(open *PortSet) {
	p.open, p.free = open, 0
	for w := range p.words {
		word := &p.words[w]
		word.open = word.ours & open[w]
		p.free += bits.OnesCount64(word.free())
		p.updateFull(w)
	}
}

// Free returns the number of ports that can be allocated, if those in open may be.
func (p *Pool) Free(open *PortSet) int {
	if p.open != open {
		p.follow(open)
	}
	return p.free
}

// InUse returns the number of allocated ports.
func (p *Pool) InUse() int { return p.inUse }

// Bind records the table slot of the connection that has an allocated port.
func (p *Pool) Bind(port uint16, slot uint32) {
	p.slots[p.words[port>>6].index(port)] = slot
}

// Lookup returns the table slot of the connection that has the port. ok is false if the port is
// free or not in the pool.
func (p *Pool) Lookup(port uint16) (slot uint32, ok bool) {
	w := &p.words[port>>6]
	if w.ours&w.used>>(port&63)&1 == 0 {
		return 0, false
	}
	return p.slots[w.index(port)], true
}

// index returns how many ports of the pool are below port, which is one of them.
func (w *portWord) index(port uint16) int {
	return int(w.before) + bits.OnesCount64(w.ours&(1<<(port&63)-1))
}

// free returns the ports that can be allocated.
func (w *portWord) free() uint64 { return w.open &^ w.used }

// updateFull sets the bit of a word in full.
func (p *Pool) updateFull(w int) {
	if p.words[w].free() == 0 {
		p.full[w>>6] |= 1 << (w & 63)
	} else {
		p.full[w>>6] &^= 1 << (w & 63)
	}
}

// Alloc returns the next free port among those in open; ok is false if there is none. It reads at
// most 18 words of memory, and more only if open is another set than in the call before.
func (p *Pool) Alloc(open *PortSet) (port uint16, ok bool) {
	if p.Free(open) == 0 {
		return 0, false
	}
	w := int(p.next >> 6)
	free := p.words[w].free() >> (p.next & 63) << (p.next & 63)
	if free == 0 {
		w = p.wordAfter(w)
		free = p.words[w].free()
	}
	port = uint16(w<<6 + bits.TrailingZeros64(free))
	p.allocate(port)
	p.next = port + 1
	return port, true
}

// allocate marks a port as allocated.
func (p *Pool) allocate(port uint16) {
	w := int(port >> 6)
	p.words[w].used |= 1 << (port & 63)
	p.updateFull(w)
	p.inUse++
	if p.words[w].open>>(port&63)&1 != 0 {
		p.free--
	}
}

// wordAfter returns the first word after w, cyclically, that has a free port. The pool must have
// one.
func (p *Pool) wordAfter(w int) int {
	at := (w + 1) % len(p.words)
	block := ^p.full[at>>6] >> (at & 63) << (at & 63)
	for i := at >> 6; ; {
		if block != 0 {
			return i<<6 + bits.TrailingZeros64(block)
		}
		i = (i + 1) % len(p.full)
		block = ^p.full[i]
	}
}

// Release frees an allocated port.
func (p *Pool) Release(port uint16) {
	w := int(port >> 6)
	p.words[w].used &^= 1 << (port & 63)
	p.updateFull(w)
	p.inUse--
	if p.words[w].open>>(port&63)&1 != 0 {
		p.free++
	}
}

// Restore undoes a Release: the port is allocated again, and bound to the slot as before.
func (p *Pool) Restore(port uint16) { p.allocate(port) }

// Position is where the search for a free port begins.
type Position uint16

// Position returns the present position.
func (p *Pool) Position() Position { return Position(p.next) }

// Rewind returns to a position.
func (p *Pool) Rewind(to Position) { p.next = uint16(to) }
