package tx

import "math"

// Pace determines when the next frame is due, for a constant rate. It belongs to one goroutine.
// live.c has the same arithmetic.
type Pace struct {
	gap   uint64 // between two frames, in 2^-16 ns; 0: always due
	next  uint64 // when the next frame is due, in 2^-16 ns after start
	start int64  // ns
	began bool
}

// fraction is the number of bits of a gap below the nanosecond. With 16, a rate of 10 million per
// second is met to 1 in 6 million, and 2^48 ns, three days, fit.
const fraction = 16

// backlogNS bounds the delay that a sender makes up for.
const backlogNS = 100e6

// gapOf returns the time between two frames at a rate, 0 for as fast as possible.
func gapOf(rate float64) uint64 {
	if rate <= 0 {
		return 0
	}
	return max(uint64(math.Round(1e9/rate*(1<<fraction))), 1)
}

// MaxRate is more than any interface can send. A gap of 2^-16 ns would only be reached far above
// it.
const MaxRate = 1e9

// NewPace returns a pace of so many frames per second, 0 for as many as possible.
func NewPace(rate float64) *Pace { return &Pace{gap: gapOf(rate)} }

// Wait returns the ns until the next frame is due; 0 or less: now.
func (p *Pace) Wait(nowNS int64) int64 {
	if p.gap == 0 {
		return 0
	}
	if !p.began {
		p.start, p.began = nowNS, true
	}
	return int64(p.next>>fraction) - (nowNS - p.start)
}

// Took counts one frame as sent now. A delay of more than backlogNS is not made up for, so that no
// burst follows a long stop.
func (p *Pace) Took(nowNS int64) {
	if p.gap == 0 {
		return
	}
	at := uint64(nowNS-p.start) << fraction
	if at > p.next+backlogNS<<fraction {
		p.next = at - backlogNS<<fraction
	}
	p.next += p.gap
}

// Recorded is the pace of frames with recorded times.
type Recorded struct {
	offset func() int64 // when the next frame was sent, ns after the first one
	speed  float64
	start  int64
	began  bool
}

// NewRecorded returns a pace with the times that offset returns, divided by speed: 2 is twice as
// fast.
func NewRecorded(offset func() int64, speed float64) *Recorded {
	return &Recorded{offset: offset, speed: speed}
}

// Wait implements Pacer.
func (r *Recorded) Wait(nowNS int64) int64 {
	if !r.began {
		r.start, r.began = nowNS, true
	}
	return int64(float64(r.offset())/r.speed) - (nowNS - r.start)
}

// Took implements Pacer.
func (r *Recorded) Took(int64) {}
