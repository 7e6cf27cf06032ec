package conn

import "math"

// chunkShift is log2 of the slots per chunk: the unit in which the sweep knows what is empty.
const chunkShift = 10

// farMs is how far ahead the sweep sets the Expires of free slots, which means nothing otherwise:
// it then passes over them as over living ones. After this time, twelve days, it does so again.
const farMs = 1 << 30

// visitCost is how many slots can be looked at in the time that it takes to see to an entry that is
// due: to remove it, mostly.
const visitCost = 12

// sweepStride is how many slots a sweep looks at before it asks again what that has cost.
const sweepStride = 256

// Sweep goes over the next n slots from where the last sweep ended, removes what has expired and
// returns how many it removed. Chunks with nothing in them are passed over, so that an empty table
// is swept for nothing and its memory is never touched.
func (t *Table) Sweep(nowMs uint32, n int) (removed int) {
	before := t.length
	t.SweepWithin(nowMs, n, math.MaxInt)
	return before - t.length
}

// SweepWithin is Sweep that ends early when it has taken the time in which so many slots can be
// looked at if none is due, some nanoseconds each. It returns how many slots it went over.
func (t *Table) SweepWithin(nowMs uint32, n, slotTimes int) (passed int) {
	for passed < n && slotTimes > 0 {
		if t.sweepAt >= t.slots() {
			t.sweepAt = 0
		}
		chunk := t.sweepAt >> chunkShift
		end := min((chunk+1)<<chunkShift, t.slots(), t.sweepAt+uint32(n-passed))
		if t.chunkLive[chunk] > 0 {
			end = min(end, t.sweepAt+sweepStride)
			slotTimes -= int(end-t.sweepAt) + visitCost*t.sweep(t.sweepAt, end, nowMs)
		} else {
			slotTimes--
		}
		passed += int(end - t.sweepAt)
		t.sweepAt = end
	}
	return passed
}

// sweep removes what has expired of the slots from from to below to. It returns how many were due.
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

// SweepSlots is the number of slots that one whole round looks at, for dividing it over ticks.
func (t *Table) SweepSlots() int { return int(t.slots()) }

// Scan calls visit for the entries from slot cursor on, until it has looked at n slots, and returns
// the cursor to go on from; 0 means that the table is through. visit may remove the entry it is
// given.
func (t *Table) Scan(cursor uint32, n int, visit func(*Conn)) (next uint32) {
	for ; n > 0; n-- {
		if cursor >= t.slots() {
			return 0
		}
		if t.chunkLive[cursor>>chunkShift] == 0 {
			cursor = (cursor>>chunkShift + 1) << chunkShift
			continue
		}
		if c := t.conn(cursor); c.key != 0 {
			visit(c)
		}
		cursor++
	}
	return cursor
}
