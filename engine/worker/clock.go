package worker

import "time"

var started = time.Now()

// nowNs returns the time since the process started. It is monotonic, so that no change of the time
// of day expires anything.
func nowNs() int64 { return int64(time.Since(started)) }

// NowNs returns the workers' time: nanoseconds since the process started.
func NowNs() int64 { return nowNs() }

// NowMs returns the time that the pipeline is given, in ms since the process started. It wraps
// around.
func NowMs() uint32 { return uint32(nowNs() / int64(time.Millisecond)) }

// Time returns the time of day of Record.AtNs.
func Time(atNs int64) time.Time { return started.Add(time.Duration(atNs)) }

// stage is a part of a worker's turn.
type stage int

const (
	receiving stage = iota
	processing
	transmitting
	stages
)

// clock holds the time that a worker works with and measures what the worker spends it on. It reads
// the time once per stage of a turn that has frames, and once per turn otherwise.
type clock struct {
	ns      int64 // as of the last update
	ms      uint32
	turnNs  int64 // start of the turn; 0: the worker slept before it
	counted *Totals
}

// turn starts a turn.
func (c *clock) turn() {
	c.update()
	if c.turnNs != 0 {
		c.counted.Gaps.add(uint64(c.ns - c.turnNs))
	}
	c.turnNs = c.ns
}

// update reads the time.
func (c *clock) update() {
	c.ns = nowNs()
	c.ms = uint32(c.ns / int64(time.Millisecond))
}

// account adds the time since the last update to a stage of a busy turn.
func (c *clock) account(s stage) {
	before := c.ns
	c.update()
	c.counted.StageNs[s] += uint64(c.ns - before)
	c.counted.BusyNs += uint64(c.ns - before)
}

// slept makes the next turn not count as a gap: the worker slept before it.
func (c *clock) slept() { c.turnNs = 0 }
