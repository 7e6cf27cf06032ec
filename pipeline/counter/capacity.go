package counter

import "sync/atomic"

// blocksPerWorker is into how many blocks an even share is divided. What a worker has taken and not
// used is lost to the others: at most two blocks each, three per cent of an even share.
const blocksPerWorker = 64

// Capacity is how many entries the connection tables of all workers together may have, of both
// families. Each worker has a Share of it, which grows by a block whenever it is used up, so that
// nearly all new connections need no atomic operation.
//
// A Share grows at most to one and a half even shares: the tables of a worker have two slots for
// each entry of an even share and family, and beyond three quarters full, searches become long.
// Among a thousand flows or more, no worker of four gets so many: that would be nine standard
// deviations.
type Capacity struct {
	_       [cellsPerLine]uint64
	free    atomic.Int64 // entries that are in no Share
	_       [cellsPerLine - 1]uint64
	workers int
	entries int
	census  *census // nil before the first NewTally
}

// NewCapacity makes a Capacity of that many entries for that many workers.
func NewCapacity(workers, entries int) *Capacity {
	c := &Capacity{workers: workers, entries: entries}
	c.free.Store(int64(entries))
	return c
}

// Even returns the number of entries that each worker has if all have the same number.
func (c *Capacity) Even() int { return (c.entries + c.workers - 1) / c.workers }

// take takes up to n entries and returns how many.
func (c *Capacity) take(n int) int {
	for {
		free := c.free.Load()
		taken := min(int64(n), free)
		if taken == 0 || c.free.CompareAndSwap(free, free-taken) {
			return int(taken)
		}
	}
}

// Share is what one worker has taken of a Capacity. It belongs to that worker's goroutine.
type Share struct {
	Free  int // entries that may be inserted; who inserts or removes one counts it here
	taken int // Free, and those that exist
	most  int // taken never exceeds it
	block int
	of    *Capacity
}

// NewShare makes the Share of one worker, of one block.
func (c *Capacity) NewShare() *Share {
	s := &Share{of: c, most: c.entries, block: max(1, c.Even()/blocksPerWorker)}
	if c.workers > 1 {
		s.most = c.Even() + c.Even()/2
	}
	s.Grow()
	return s
}

// Grow takes another block if Free is 0. It reports whether Free is above 0 now.
//
//go:noinline
func (s *Share) Grow() bool {
	if s.Free == 0 {
		s.Free = s.of.take(min(s.block, s.most-s.taken))
		s.taken += s.Free
	}
	return s.Free > 0
}

// Used returns which part of the Capacity is used, in units of 1/Whole. What workers have taken and
// not used counts as used.
func (s *Share) Used() uint32 {
	return uint32((int64(s.of.entries) - s.of.free.Load()) * Whole / int64(s.of.entries))
}

// Shrink gives back what is free beyond one block, once it is a block or more. Housekeeping calls
// it.
func (s *Share) Shrink() {
	if back := s.Free - s.block; back >= s.block {
		s.Free -= back
		s.taken -= back
		s.of.free.Add(int64(back))
	}
}
