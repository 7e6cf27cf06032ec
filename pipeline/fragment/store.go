package fragment

import (
	"sluice/pipeline/flow"
	"sluice/pipeline/packet"
)

// MaxAgeMs is how long a packet is remembered after its first fragment, and how long a follower
// waits for it, in milliseconds. What a queue or a path reorders arrives within this time.
const MaxAgeMs = 2000

// FrameBytes is the length of the longest frame that may wait.
const FrameBytes = 2048

// MinFrames and MaxFrames bound the number of frames that may wait in one Store.
const (
	MinFrames = 16
	MaxFrames = 1 << 15
)

// ways is the number of entries of a set.
const ways = 4

// Key is the identity of a packet. Proto is 0 in IPv6.
type Key struct {
	Src, Dst packet.Addr
	ID       uint32
	Proto    uint8
}

// KeyOf returns the key of the packet that m is a fragment of.
func KeyOf(m *packet.Meta, id uint32) Key {
	k := Key{Src: m.Src, Dst: m.Dst, ID: id, Proto: m.Proto}
	if m.Family == 6 {
		k.Proto = 0
	}
	return k
}

// Hash returns a hash of the key.
func (k *Key) Hash(seed *flow.Seed) uint64 {
	h := seed.Hash(k.Dst, uint16(k.ID), k.Proto)
	return seed.Hash(packet.Addr{Hi: k.Src.Hi ^ h, Lo: k.Src.Lo}, uint16(k.ID>>16), 0)
}

// Note is what followers are forwarded by: the ports and the protocol of their first fragment, and
// the identification that the fragments get where addresses are translated.
type Note struct {
	SrcPort, DstPort uint16
	ID               uint32
	Proto            uint8
}

// known is a packet with a first fragment that has come. seenMs is of the first fragment.
type known struct {
	key    Key
	note   Note
	seenMs uint32
	used   bool
}

// waiting is a packet with followers that wait, in the order of their arrival: places in the ring
// plus 1; first 0: there are none.
type waiting struct {
	key         Key
	seenMs      uint32 // of the latest follower
	first, last uint16
}

// Store is the fragments of one worker. It belongs to one goroutine.
type Store struct {
	known   [][ways]known
	waiting [][ways]waiting

	mem        []byte // FrameBytes for each place
	places     []place
	head, tail uint32 // the next place to fill, and the oldest that is in use: counts that wrap
	// readyFirst, readyLast: followers with a first fragment that has come, as in waiting
	readyFirst, readyLast uint16
}

// place is one place of the ring, with the frame of one follower.
type place struct {
	state    state
	port     uint8
	length   uint16
	next     uint16 // likewise of the same packet, or ready; 0: none
	sinceMs  uint32
	set, way uint32 // of the packet in waiting
	note     Note   // if it is ready
}

type state uint8

const (
	free state = iota
	held
	ready
)

// New makes a Store for a number of frames that wait, a power of two from MinFrames to MaxFrames,
// and as many packets. It allocates about 2,300 bytes for each.
func New(frames int) *Store {
	return &Store{
		known: make([][ways]known, frames/ways), waiting: make([][ways]waiting, frames/ways),
		mem: make([]byte, frames*FrameBytes), places: make([]place, frames),
	}
}

// set returns the number of the set of a key with this hash. It uses the high half of the hash:
// the low half determines the owner (flow.Owner).
func (s *Store) set(hash uint64) uint32 { return uint32(hash>>32) & uint32(len(s.known)-1) }

// Lookup returns the note of the packet's first fragment, nil if none has come lately.
func (s *Store) Lookup(hash uint64, k *Key, nowMs uint32) *Note {
	set := &s.known[s.set(hash)]
	for i := range set {
		if e := &set[i]; e.used && e.key.ID == k.ID && e.key == *k && nowMs-e.seenMs <= MaxAgeMs {
			return &e.note
		}
	}
	return nil
}

// Learn records the first fragment of a packet, and makes the followers that wait for it ready. It
// returns the note for all fragments: that of a copy of the same first fragment that came before,
// or n.
func (s *Store) Learn(hash uint64, k *Key, n Note, nowMs uint32) Note {
	set := &s.known[s.set(hash)]
	at, oldestMs := 0, uint32(0)
	for i := range set {
		e := &set[i]
		age := nowMs - e.seenMs
		if !e.used || age > MaxAgeMs {
			age = ^uint32(0)
		} else if e.key == *k {
			if at = i; e.note.SrcPort == n.SrcPort && e.note.DstPort == n.DstPort && e.note.Proto == n.Proto {
				n.ID = e.note.ID
			}
			break
		}
		if age > oldestMs {
			at, oldestMs = i, age
		}
	}
	set[at] = known{key: *k, note: n, seenMs: nowMs, used: true}
	s.makeReady(hash, k, &n)
	return n
}

// makeReady appends the followers of a packet to those that are ready.
func (s *Store) makeReady(hash uint64, k *Key, n *Note) {
	w := s.find(hash, k)
	if w == nil {
		return
	}
	for at := w.first; at != 0; at = s.places[at-1].next {
		p := &s.places[at-1]
		p.state, p.note = ready, *n
	}
	if s.readyFirst == 0 {
		s.readyFirst = w.first
	} else {
		s.places[s.readyLast-1].next = w.first
	}
	s.readyLast = w.last
	w.first, w.last = 0, 0
}

// find returns the packet if followers of it wait, else nil.
func (s *Store) find(hash uint64, k *Key) *waiting {
	set := &s.waiting[s.set(hash)]
	for i := range set {
		if w := &set[i]; w.first != 0 && w.key.ID == k.ID && w.key == *k {
			return w
		}
	}
	return nil
}

// Hold copies the frame of a follower that no first fragment is known of. port is where it arrived.
// It returns how many followers had to leave, without having been forwarded, and whether there was
// a place for this one.
func (s *Store) Hold(hash uint64, k *Key, frame []byte, port uint8, nowMs uint32) (left int, ok bool) {
	if len(frame) > FrameBytes {
		return 0, false
	}
	left, ok = s.makePlace()
	if !ok {
		return left, false
	}
	set, way, displaced := s.wait(hash, k, nowMs)
	at := s.head & uint32(len(s.places)-1)
	s.head++
	p := &s.places[at]
	*p = place{state: held, port: port, length: uint16(len(frame)), sinceMs: nowMs, set: set, way: way}
	copy(s.mem[at*FrameBytes:], frame)
	w := &s.waiting[set][way]
	if w.first == 0 {
		w.first = uint16(at + 1)
	} else {
		s.places[w.last-1].next = uint16(at + 1)
	}
	w.last, w.seenMs = uint16(at+1), nowMs
	return left + displaced, true
}

// makePlace frees the place at the head of the ring. It returns how many followers left.
func (s *Store) makePlace() (left int, ok bool) {
	s.skipFree()
	if s.head-s.tail < uint32(len(s.places)) {
		return 0, true
	}
	p := &s.places[s.tail&uint32(len(s.places)-1)]
	if p.state == ready { // it leaves soon
		return 0, false
	}
	s.dropOldest(p)
	return 1, true
}

// skipFree moves the tail to the oldest place in use.
func (s *Store) skipFree() {
	for s.tail != s.head && s.places[s.tail&uint32(len(s.places)-1)].state == free {
		s.tail++
	}
}

// dropOldest frees the place at the tail, which is held. Followers of one packet were placed in the
// order of their list, so it is the first of its list.
func (s *Store) dropOldest(p *place) {
	w := &s.waiting[p.set][p.way]
	w.first = p.next
	p.state = free
	s.tail++
}

// wait returns where the packet's followers wait. If that is the place of another packet, the
// followers of that one leave: displaced is their number.
func (s *Store) wait(hash uint64, k *Key, nowMs uint32) (set, way uint32, displaced int) {
	set = s.set(hash)
	oldestMs, entries := uint32(0), &s.waiting[set]
	for i := range entries {
		w := &entries[i]
		age := nowMs - w.seenMs
		if w.first == 0 {
			age = ^uint32(0)
		} else if w.key == *k {
			return set, uint32(i), 0
		}
		if age >= oldestMs {
			way, oldestMs = uint32(i), age
		}
	}
	w := &entries[way]
	for at := w.first; at != 0; at = s.places[at-1].next {
		s.places[at-1].state = free
		displaced++
	}
	*w = waiting{key: *k, seenMs: nowMs}
	return set, way, displaced
}

// Expire removes followers that have waited too long, and returns their number.
func (s *Store) Expire(nowMs uint32) (left int) {
	for s.skipFree(); s.tail != s.head; s.skipFree() {
		p := &s.places[s.tail&uint32(len(s.places)-1)]
		if p.state == ready || nowMs-p.sinceMs <= MaxAgeMs {
			break
		}
		s.dropOldest(p)
		left++
	}
	return left
}

// Ready reports whether Release has a frame.
func (s *Store) Ready() bool { return s.readyFirst != 0 }

// Release copies the frame of the next follower with a first fragment that has come to the start of
// buf, and returns its length, the port where it arrived and its note. The length is 0 if there is
// none.
func (s *Store) Release(buf []byte) (length int, port uint8, n Note) {
	at := s.readyFirst
	if at == 0 {
		return 0, 0, Note{}
	}
	p := &s.places[at-1]
	s.readyFirst = p.next
	p.state = free
	from := (int(at) - 1) * FrameBytes
	return copy(buf, s.mem[from:from+int(p.length)]), p.port, p.note
}
