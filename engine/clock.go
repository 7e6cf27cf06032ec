package engine

import (
	"math/bits"
	"time"
)

var started = time.Now()

// nowNs is the time since the process started: monotonic, so that no change of the clock expires
// anything.
func nowNs() int64 { return int64(time.Since(started)) }

// nowMs is the tick that the pipeline counts time by.
func nowMs() uint32 { return uint32(nowNs() / int64(time.Millisecond)) }

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
	gaps    histogram // time from one turn's begin to the next's, sleep left out
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

// histogram counts values in buckets that are an eighth of their size wide.
type histogram struct {
	counts [64 * 8]uint64
	max    uint64
	sum    uint64
}

const (
	subBuckets = 8
	subBits    = 3
)

func (h *histogram) add(v uint64) {
	h.counts[bucketOf(v)]++
	h.max = max(h.max, v)
	h.sum += v
}

// bucketOf numbers the buckets: values below 8 have one each, then eight per power of two.
func bucketOf(v uint64) int {
	if v < subBuckets {
		return int(v)
	}
	e := bits.Len64(v) - 1 - subBits
	return (e+1)*subBuckets + int(v>>e)&(subBuckets-1)
}

// highest is the largest value that falls into the bucket.
func highest(bucket int) uint64 {
	if bucket < subBuckets {
		return uint64(bucket)
	}
	e := bucket/subBuckets - 1
	return (uint64(bucket%subBuckets+subBuckets)+1)<<e - 1
}

// quantile gives a value that so large a share of all values does not exceed, at most an eighth too
// high.
func (h *histogram) quantile(share float64) uint64 {
	var total uint64
	for _, n := range h.counts {
		total += n
	}
	left := uint64(share * float64(total))
	for b, n := range h.counts {
		if n > left {
			return min(highest(b), h.max)
		}
		left -= n
	}
	return h.max
}

// below counts the values that are less than each bound and not less than the one before it, and
// last those beyond all. A bound must be a power of two, where a bucket begins.
func (h *histogram) below(bounds []uint64) []uint64 {
	counts := make([]uint64, len(bounds)+1)
	b := 0
	for i, bound := range bounds {
		for end := bucketOf(bound); b < end; b++ {
			counts[i] += h.counts[b]
		}
	}
	for ; b < len(h.counts); b++ {
		counts[len(bounds)] += h.counts[b]
	}
	return counts
}
