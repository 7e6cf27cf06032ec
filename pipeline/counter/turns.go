package counter

import "sync/atomic"

// Turns holds where the schedulers stand that take backends in turn: one word per service id, which
// all workers share, so that they take turns together. A scheduler computes the next word from the
// present one, and Advance replaces it if no other worker was faster.
//
// Only new connections use it. Each word has a cache line of its own, so that workers that open
// connections to different services do not delay each other. Memory: 64 bytes per service.
type Turns struct {
	lines []turn
	alone bool // there is one worker, and an atomic operation would be for nothing
}

// turn is what the workers share of one service, in a cache line.
type turn struct {
	word   uint64
	window uint64 // see Admit
	_      [cellsPerLine - 2]uint64
}

// NewTurns makes words for that many workers and the service ids 0 to services-1. They are 0.
func NewTurns(workers, services int) *Turns {
	return &Turns{make([]turn, services), workers == 1}
}

// Len is the number of service ids.
func (t *Turns) Len() int { return len(t.lines) }

// Of returns the present word of a service. Any worker may call it.
func (t *Turns) Of(service uint32) uint64 { return atomic.LoadUint64(&t.lines[service].word) }

// Advance replaces the word of a service, and reports whether it was still the former one. If not,
// another worker has taken the turn, and the caller computes the next from the present word. Any
// worker may call it.
func (t *Turns) Advance(service uint32, from, to uint64) bool {
	if from == to {
		return true
	}
	word := &t.lines[service].word
	if t.alone {
		*word = to
		return true
	}
	return atomic.CompareAndSwapUint64(word, from, to)
}
