package worker

import "time"

var started = time.Now()

// nowNs is the time since the process started: monotonic, so that no change of the clock expires
// anything.
func nowNs() int64 { return int64(time.Since(started)) }

// NowMs is the tick that the pipeline counts time by.
func NowMs() uint32 { return uint32(nowNs() / int64(time.Millisecond)) }

// Time returns the time of day of a Record.
func Time(atNs int64) time.Time { return started.Add(time.Duration(atNs)) }

// stage is a part of a worker's turn.
type stage int

const (
	receiving stage = iota
	processing
	transmitting
	stages
)

// clock tells a worker the time, once per stage of a turn that has frames and once per turn
// otherwise, and keeps what it takes to say where the time went. Owned by the worker.
type clock struct {
	ns      int64 // now, as of the last look
	ms      uint32
	turnNs  int64 // when the turn began; 0: the worker slept before it
	busyNs  int64 // in turns that had frames
	stageNs [stages]int64
	gaps    Histogram // time from one turn's begin to the next's, sleep left out
}

// turn begins a turn.
func (c *clock) turn() {
	c.look()
	if c.turnNs != 0 {
		c.gaps.add(uint64(c.ns - c.turnNs))
	}
	c.turnNs = c.ns
}

func (c *clock) look() {
	c.ns = nowNs()
	c.ms = uint32(c.ns / int64(time.Millisecond))
}

// end books the time since the last look on a stage of a busy turn.
func (c *clock) end(s stage) {
	before := c.ns
	c.look()
	c.stageNs[s] += c.ns - before
	c.busyNs += c.ns - before
}

// slept says that the next turn begins after a sleep, which is no gap.
func (c *clock) slept() { c.turnNs = 0 }
