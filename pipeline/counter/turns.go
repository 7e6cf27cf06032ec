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
}

// turn is one word in a cache line.
type turn struct {
	atomic.Uint64
	_ [cellsPerLine - 1]uint64
}

// NewTurns makes words for the service ids 0 to services-1. They are 0.
func NewTurns(services int) *Turns { return &Turns{make([]turn, services)} }

// Of returns the present word of a service. Any goroutine may call it.
func (t *Turns) Of(service uint32) uint64 { return t.lines[service].Load() }

// Advance replaces the word of a service, and reports whether it was still the former one. If not,
// another worker has taken the turn, and the caller computes the next from the present word. Any
// worker may call it.
func (t *Turns) Advance(service uint32, from, to uint64) bool {
	return from == to || t.lines[service].CompareAndSwap(from, to)
}
