package pipeline

import "math/bits"

// PortSet is a set of port numbers, one bit each: 8 KiB.
type PortSet [1024]uint64

// Add puts the ports from first to last into the set.
func (s *PortSet) Add(first, last uint16) {
	for p := int(first); p <= int(last); p++ {
		s[p>>6] |= 1 << (p & 63)
	}
}

// Has says whether the port is in the set.
func (s *PortSet) Has(port uint16) bool { return s[port>>6]>>(port&63)&1 != 0 }

// Len is the number of ports in the set.
func (s *PortSet) Len() (n int) {
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// portPool is what one worker has of a fullnat address's ports towards one backend: its connections
// there can't be told apart but by the port. Workers share the ports out among them (SourceRef), so
// that a reply's port says whose it is.
type portPool struct {
	words   [1024]portWord
	full    [16]uint64 // bit per word: no port in it is free
	holders []uint32   // by number among our ports: the connection that has it, by its slot in the table
	free    int
	next    uint16 // search begins here: behind the last one taken, so that a port rests as long as possible
}

// portWord is what a pool has of 64 ports, one bit each.
type portWord struct {
	ours   uint64
	used   uint64 // ports in use, and those that are not ours to use
	before int    // how many ports are ours in the words before
}

// newPortPool makes a pool of the allowed ports that are mine, which tells of the 64 ports from
// 64*w on.
func newPortPool(allowed *PortSet, mine func(w int) uint64) *portPool {
	p := new(portPool)
	for w := range p.words {
		ours := allowed[w] & mine(w)
		p.words[w] = portWord{ours, ^ours, p.free}
		p.free += bits.OnesCount64(ours)
		p.note(w)
	}
	p.holders = make([]uint32, p.free)
	return p
}

// lead notes which connection has a port that was taken.
func (p *portPool) lead(port uint16, slot uint32) {
	p.holders[p.words[port>>6].number(port)] = slot
}

// holder gives the connection that has the port.
func (p *portPool) holder(port uint16) (slot uint32, ok bool) {
	w := &p.words[port>>6]
	if w.ours&w.used>>(port&63)&1 == 0 {
		return 0, false
	}
	return p.holders[w.number(port)], true
}

// number is how many of our ports are below one of them.
func (w *portWord) number(port uint16) int {
	return w.before + bits.OnesCount64(w.ours&(1<<(port&63)-1))
}

// byNumber tells which of the ports from 64*w on the worker has if ports are dealt out in turn.
func byNumber(worker, workers, w int) (ports uint64) {
	ports = 1
	for step := workers; step < 64; step *= 2 {
		ports |= ports << step
	}
	first := (worker - w<<6%workers + workers) % workers
	return ports << first
}

// note brings the summary in line with a word.
func (p *portPool) note(w int) {
	if p.words[w].used == ^uint64(0) {
		p.full[w>>6] |= 1 << (w & 63)
	} else {
		p.full[w>>6] &^= 1 << (w & 63)
	}
}

// take gives the next free port. It looks at 18 words of memory at most.
func (p *portPool) take() (port uint16, ok bool) {
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
	p.note(w)
	p.free--
	p.next = port + 1
	return port, true
}

// wordAfter finds the first word behind w, or around the end, that has a free port. There is one.
func (p *portPool) wordAfter(w int) int {
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

// give takes a port back.
func (p *portPool) give(port uint16) {
	w := int(port >> 6)
	p.words[w].used &^= 1 << (port & 63)
	p.note(w)
	p.free++
}
