package health

import (
	"fmt"
	"math"
	"time"
)

// State is what is known about a backend.
type State struct {
	Up      bool
	Failing bool      // the last probe failed; with Up, the backend may soon be down
	Failed  time.Time // with Failing: when the first probe of the current row of failures failed
	Since   time.Time // when it went up or down
	Reason  string    // why it went up or down

	Checked time.Time     // end of the last probe; zero: none yet
	Took    time.Duration // duration of the last probe
	Last    string        // result of the last probe; "": success
}

// stateMachine decides when a backend goes up or down. A result that agrees with the present state
// ends the row of those that contradict it: alternating results change nothing as long as Rise and
// Fall are above 1.
//
// A backend that goes down again and again is held down. Each time counts as 1, and counts half as
// much with every flapHalf times FlapHold that pass. Above flapLimit the backend must succeed for
// FlapHold without a failure before it is up. (RFC 2439 damps flapping routes in the same way.)
type stateMachine struct {
	State
	row int // results in a row that contradict Up
	// good is the start of the first success of the current row; zero: the last result was a
	// failure.
	good time.Time

	held   bool      // it works, and Reason says why it is not up yet
	flaps  float64   // times that it went down, older ones with less weight
	flapAt time.Time // when flaps had that value
}

const (
	flapLimit = 3.0
	flapHalf  = 5
)

// start returns the machine of a backend without results.
func start(now time.Time) stateMachine {
	return stateMachine{State: State{Up: true, Since: now, Reason: "not checked yet"}}
}

// record processes the result of a probe and reports whether the backend went up or down.
func (m *stateMachine) record(err error, c Check, began, ended time.Time) (changed bool) {
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

// flapsAt returns how often the backend went down, as weighted at a time.
func (m *stateMachine) flapsAt(now time.Time, c Check) float64 {
	if c.FlapHold == 0 {
		return 0
	}
	halves := float64(now.Sub(m.flapAt)) / float64(flapHalf*c.FlapHold)
	return m.flaps * math.Exp2(-halves)
}

// heldFor returns how much longer a working backend must succeed; 0 or less: it may be up.
func (m *stateMachine) heldFor(now time.Time, c Check) time.Duration {
	if m.flapsAt(now, c) <= flapLimit {
		return 0
	}
	return c.FlapHold - now.Sub(m.good)
}

// turn sets whether the backend is up.
func (m *stateMachine) turn(up bool, reason string, now time.Time) {
	m.Up, m.Reason, m.Since, m.row, m.held = up, reason, now, 0, false
}
