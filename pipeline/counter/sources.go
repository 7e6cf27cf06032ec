package counter

import "sync/atomic"

// Sources counts the connections of each source of a service, and the new ones of a second, for all
// workers together. Its memory is fixed. A source that finds no place among others is not counted:
// errors let connections through, and never refuse an innocent.
//
// A source has one of the slots of a set, which its number determines. A slot is free for another
// source when it has no connections and had no new ones in the last seconds.
type Sources struct {
	slots []source
}

// source is a slot: half a cache line.
type source struct {
	id     atomic.Uint64 // number of the source; 0: none
	open   atomic.Uint64 // upper half of id, and number of connections
	window uint64        // see admit
	_      uint64
}

const (
	sourceSlots = 1 << 18 // 8 MiB
	sourceSet   = 8       // slots of a set
)

// SourceVerdict is what Sources says about a new connection.
type SourceVerdict int

// The verdicts.
const (
	SourceAdmitted SourceVerdict = iota
	SourceFull                   // it has as many connections as it may have
	SourceFast                   // it has as many new ones in this second
)

// NewSources makes counts of no sources.
func NewSources() *Sources { return &Sources{make([]source, sourceSlots)} }

// set returns the slots that a source may have.
func (s *Sources) set(id uint64) []source {
	at := id % (sourceSlots / sourceSet) * sourceSet
	return s.slots[at : at+sourceSet]
}

// find returns the slot of a source, nil if it has none.
func (s *Sources) find(id uint64) *source {
	set := s.set(id)
	for i := range set {
		if slot := &set[i]; slot.isOf(id) {
			return slot
		}
	}
	return nil
}

func (slot *source) isOf(id uint64) bool {
	return slot.id.Load() == id && slot.open.Load()>>32 == id>>32
}

// claim gives a source a slot that is free, or that another worker has given it meanwhile; nil:
// there is none.
func (s *Sources) claim(id uint64, nowMs uint32) *source {
	set := s.set(id)
	for i := range set {
		slot := &set[i]
		for was := slot.open.Load(); uint32(was) == 0 && idle(&slot.window, nowMs); was = slot.open.Load() {
			// The upper half changes first, so that a worker that still counts for the former
			// source sees that the slot is another's.
			if slot.open.CompareAndSwap(was, id>>32<<32) {
				atomic.StoreUint64(&slot.window, 0)
				slot.id.Store(id)
				return slot
			}
		}
		if slot.isOf(id) {
			return slot
		}
	}
	return nil
}

// Admit decides about a new connection of the source with the number id, which is a hash and not 0,
// and counts it if it is admitted. most and perSecond are the limits; 0: none. Any worker may call
// it.
func (s *Sources) Admit(id uint64, nowMs, most, perSecond uint32) SourceVerdict {
	slot := s.find(id)
	if slot == nil {
		if slot = s.claim(id, nowMs); slot == nil {
			return SourceAdmitted
		}
	}
	for {
		was := slot.open.Load()
		if was>>32 != id>>32 {
			return SourceAdmitted // the slot is another's meanwhile
		}
		if most != 0 && uint32(was) >= most {
			return SourceFull
		}
		if slot.open.CompareAndSwap(was, was+1) {
			break
		}
	}
	if perSecond != 0 && !admit(&slot.window, nowMs, perSecond) {
		s.Release(id)
		return SourceFast
	}
	return SourceAdmitted
}

// Peek returns what Admit would, and counts nothing.
func (s *Sources) Peek(id uint64, nowMs, most, perSecond uint32) SourceVerdict {
	slot := s.find(id)
	if slot == nil {
		return SourceAdmitted
	}
	window := atomic.LoadUint64(&slot.window)
	switch {
	case most != 0 && uint32(slot.open.Load()) >= most:
		return SourceFull
	case perSecond != 0 && !admit(&window, nowMs, perSecond):
		return SourceFast
	}
	return SourceAdmitted
}

// Release counts one connection of a source less. Any worker may call it. Should two workers have
// given the source a slot each, what is counted in either is released.
func (s *Sources) Release(id uint64) {
	set := s.set(id)
	for i := range set {
		slot := &set[i]
		for slot.isOf(id) {
			was := slot.open.Load()
			if was>>32 != id>>32 || uint32(was) == 0 {
				break
			}
			if slot.open.CompareAndSwap(was, was-1) {
				return
			}
		}
	}
}

// Open returns the number of connections of a source that are counted.
func (s *Sources) Open(id uint64) uint32 {
	if slot := s.find(id); slot != nil {
		return uint32(slot.open.Load())
	}
	return 0
}
