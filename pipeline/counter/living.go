package counter

import "sync/atomic"

// Living is a set of things that end, each once. They are added before workers run, and then any
// goroutine may call the other methods.
type Living struct {
	ended []uint32 // by number: 1 if it has
	live  atomic.Int64
}

// Add adds one, and returns its number.
func (l *Living) Add() (number int) {
	l.ended = append(l.ended, 0)
	l.live.Add(1)
	return len(l.ended) - 1
}

// End notes that one has ended.
func (l *Living) End(number int) {
	if atomic.SwapUint32(&l.ended[number], 1) == 0 {
		l.live.Add(-1)
	}
}

// Lives reports whether one has not ended.
func (l *Living) Lives(number int) bool { return atomic.LoadUint32(&l.ended[number]) == 0 }

// Live returns how many have not ended.
func (l *Living) Live() int { return int(l.live.Load()) }
