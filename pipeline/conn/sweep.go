package conn

import "math"

// chunkShift is log2 of the slots per chunk. The sweep skips empty chunks.
const chunkShift = 10

// farMs is how far ahead the sweep sets the otherwise unused Expires of free slots, so that it
// passes over them as over live entries. It does so again after this time, twelve days.
const farMs = 1 << 30

// visitCost is the cost of handling an entry that is due, mostly of removing it, in units of
// scanning one slot.
const visitCost = 12

// sweepStride is how many slots a sweep scans between two checks of its budget.
const sweepStride = 256

// Sweep scans the next n slots after the end of the last sweep, removes expired entries and returns
// how many it removed. It skips empty chunks, and never touches their memory.
func (t *Table) Sweep(nowMs uint32, n int) (removed int) {
	before := t.length
	t.SweepWithin(nowMs, n, math.MaxInt)
	return before - t.length
}

// SweepWithin is Sweep with a budget, in units of the time that scanning one slot takes, some
// nanoseconds. It returns how many slots it passed, those of empty chunks included.
func (t *Table) SweepWithin(nowMs uint32, n, budget int) (passed int) {
	for passed < n && budget > 0 {
		if t.sweepAt >= t.slots() {
			t.sweepAt = 0
		}
		chunk := t.sweepAt >> chunkShift
		end := min((chunk+1)<<chunkShift, t.slots(), t.sweepAt+uint32(n-passed))
		if t.chunkLive[chunk] > 0 {
			end = min(end, t.sweepAt+sweepStride)
			budget -= int(end-t.sweepAt) + visitCost*t.sweep(t.sweepAt, end, nowMs)
		} else {
			budget--
		}
		passed += int(end - t.sweepAt)
		t.sweepAt = end
	}
	return passed
}

// sweep removes expired entries in the slots from to to-1. It returns how many were due.
func (t *Table) sweep(from, to, nowMs uint32) (due int) {
	for {
		if from = t.due(from, to, nowMs+1); from == to {
			return due
		}
		c := t.conn(from)
		if c.key != 0 {
			t.expire(c)
			due++
		}
		if c.key == 0 {
			c.Expires = nowMs + farMs
		}
		from++
	}
}

// SweepSlots returns the number of slots of one whole round.
func (t *Table) SweepSlots() int { return int(t.slots()) }

// Scan calls visit for the entries in the next n slots from cursor on, and returns the cursor to
// continue with; 0 means that the end of the table was reached. visit may remove its entry.
func (t *Table) Scan(cursor uint32, n int, visit func(*Conn)) (next uint32) {
	for ; n > 0; n-- {
		if cursor >= t.slots() {
			return 0
		}
		if t.chunkLive[cursor>>chunkShift] == 0 {
			cursor = (cursor>>chunkShift + 1) << chunkShift
			continue
		}
		if c := t.conn(cursor); c.key != 0 && !c.isMarker() {
			visit(c)
		}
		cursor++
	}
	return cursor
}
