package snat

import "math/bits"

// Pool is one worker's ports of a source towards one backend address and port. It belongs to that
// worker's goroutine.
type Pool struct {
	words [1024]portWord
	full  [16]uint64 // bit per word: no port in it is free
	// slots: by index among the pool's ports: table slot of the connection that has the port
	slots []uint32
	free  int
	// next: the search begins here: after the port allocated last, so that a port is reused as late
	// as possible
	next uint16
}

// portWord is the state of 64 ports, one bit each.
type portWord struct {
	ours   uint64
	used   uint64 // allocated, or not ours
	before int    // number of our ports in the words before
}

// newPool makes a pool of the allowed ports that are mine. mine returns the ports of the pool among
// the 64 from 64*w on.
func newPool(allowed *PortSet, mine func(w int) uint64) *Pool {
	p := new(Pool)
	for w := range p.words {
		ours := allowed[w] & mine(w)
		p.words[w] = portWord{ours, ^ours, p.free}
		p.free += bits.OnesCount64(ours)
		p.updateFull(w)
	}
	p.slots = make([]uint32, p.free)
	return p
}

// Free returns the number of free ports.
func (p *Pool) Free() int { return p.free }

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
	return w.before + bits.OnesCount64(w.ours&(1<<(port&63)-1))
}

// updateFull sets the bit of a word in full.
func (p *Pool) updateFull(w int) {
	if p.words[w].used == ^uint64(0) {
		p.full[w>>6] |= 1 << (w & 63)
	} else {
		p.full[w>>6] &^= 1 << (w & 63)
	}
}

// Alloc returns the next free port; ok is false if there is none. It reads at most 18 words of
// memory.
func (p *Pool) Alloc() (port uint16, ok bool) {
	if p.free == 0 {
		return 0, false
	}
	w := int(p.next >> 6)
	free := ^p.words[w].used >> (p.next & 63) << (p.next & 63)
	if free == 0 {
		w = p.wordAfter(w)
		free = ^p.words[w].used
	}
	port = uint16(w<<6 + bits.TrailingZeros64(free))
	p.words[w].used |= free & -free
	p.updateFull(w)
	p.free--
	p.next = port + 1
	return port, true
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
	p.free++
}

// Position is a state of a pool that Rewind returns to.
type Position struct {
	free int
	next uint16
}

// Position returns the present state.
func (p *Pool) Position() Position { return Position{p.free, p.next} }

// Rewind undoes the allocation of port, if there was one since the position was taken. At most one
// port may have been allocated since, and none released.
func (p *Pool) Rewind(to Position, port uint16) {
	if p.free < to.free {
		p.Release(port)
	}
	p.next = to.next
}

// Clone returns a copy that allocates and releases ports by itself. The connections that ports are
// bound to are the original's: Bind must not be called on it.
func (p *Pool) Clone() *Pool {
	q := *p
	return &q
}
