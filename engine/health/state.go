package health

import (
	"fmt"
	"math"
	"time"
)

// State is what is known of a backend.
type State struct {
	Up      bool
	Failing bool      // the last probe failed: with Up, it may be on its way down
	Failed  time.Time // with Failing: when the first probe of the present row of failures failed
	Since   time.Time // when it went up or down
	Reason  string    // why, in words

	Checked time.Time     // end of the last probe; zero: none yet
	Took    time.Duration // how long that took
	Last    string        // its result in words; "": success
}

// machine decides when a backend changes sides. A result that agrees with the state it is in ends
// the row of those that don't: results that alternate change nothing as long as Rise and Fall are
// above 1.
//
// Failures in bursts do, so a backend that goes down again and again is held: each time counts as
// 1, and counts half as much with every flapHalf times FlapHold that pass. Above flapLimit the
// backend must be good for FlapHold, without a failure, before it is up. (RFC 2439 damps routes
// that flap in the same way.)
type machine struct {
	State
	row  int       // results in a row that contradict Up
	good time.Time // begin of the first success of the present row of them; zero: the last result was a failure

	held   bool      // it works, and Reason says why it is not up all the same
	flaps  float64   // times that it went down, those long ago counted less
	flapAt time.Time // when flaps had that value
}

const (
	flapLimit = 3.0
	flapHalf  = 5
)

// start is the machine of a backend that nothing is known about.
func start(now time.Time) machine {
	return machine{State: State{Up: true, Since: now, Reason: "not checked yet"}}
}

// note takes the result of a probe and reports whether the backend changed sides.
func (m *machine) note(err error, c Check, began, ended time.Time) (changed bool) {
	if err == nil && m.Up && m.Checked.IsZero() {
		m.Reason = c.Where() + ": works"
	}
	m.Checked, m.Took, m.Last, m.Failing = ended, ended.Sub(began), "", err != nil
	switch {
	case err == nil:
		m.Failed = time.Time{}
	case m.Failed.IsZero():
		m.Failed = ended
	}
	if err != nil {
		m.Last, m.good = err.Error(), time.Time{}
	} else if m.good.IsZero() {
		m.good = began
	}
	if m.held && err != nil {
		m.Reason, m.held = m.Last, false
	}
	if (err == nil) == m.Up {
		m.row = 0
		return false
	}
	m.row++
	switch {
	case err != nil && m.row >= c.Fall:
		m.flaps, m.flapAt = m.flapsAt(ended, c)+1, ended
		m.turn(false, m.Last, ended)
		return true
	case err == nil && m.row >= c.Rise:
		if left := m.heldFor(began, c); left > 0 {
			m.held = true
			m.Reason = fmt.Sprintf("%s: flaps: it works, but went down too often lately; up if it stays good for %s more",
				c.Where(), left.Round(time.Second))
			return false
		}
		m.turn(true, fmt.Sprintf("%s: works again, %d of %d checks in a row", c.Where(), m.row, c.Rise), ended)
		return true
	}
	return false
}

// flapsAt is how often the backend went down, as seen at a time.
func (m *machine) flapsAt(now time.Time, c Check) float64 {
	if c.FlapHold == 0 {
		return 0
	}
	halves := float64(now.Sub(m.flapAt)) / float64(flapHalf*c.FlapHold)
	return m.flaps * math.Exp2(-halves)
}

// heldFor is how much longer a backend that works must do so; 0 or less: it may be up.
func (m *machine) heldFor(now time.Time, c Check) time.Duration {
	if m.flapsAt(now, c) <= flapLimit {
		return 0
	}
	return c.FlapHold - now.Sub(m.good)
}

// turn puts the backend on a side.
func (m *machine) turn(up bool, reason string, now time.Time) {
	m.Up, m.Reason, m.Since, m.row, m.held = up, reason, now, 0, false
}
