package health

import (
	"fmt"
	"time"
)

// State is what is known of a backend.
type State struct {
	Up     bool
	Since  time.Time // when it went up or down
	Reason string    // why, in words

	Checked time.Time     // end of the last probe; zero: none yet
	Took    time.Duration // how long that took
	Last    string        // its result in words; "": success
}

// machine decides when a backend changes sides. A result that agrees with the state it is in ends the row of those
// that don't: results that alternate change nothing as long as Rise and Fall are above 1.
type machine struct {
	State
	row int // results in a row that contradict Up
}

// start is the machine of a backend that nothing is known about.
func start(now time.Time) machine {
	return machine{State: State{Up: true, Since: now, Reason: "not checked yet"}}
}

// note takes the result of a probe and reports whether the backend changed sides.
func (m *machine) note(err error, c Check, began, ended time.Time) (changed bool) {
	m.Checked, m.Took, m.Last = ended, ended.Sub(began), ""
	if err != nil {
		m.Last = err.Error()
	}
	if (err == nil) == m.Up {
		m.row = 0
		return false
	}
	m.row++
	if err != nil && m.row >= c.Fall {
		m.turn(false, m.Last, ended)
		return true
	}
	if err == nil && m.row >= c.Rise {
		m.turn(true, fmt.Sprintf("%s: works again, %d of %d checks in a row", c.where(), m.row, c.Rise), ended)
		return true
	}
	return false
}

// turn puts the backend on a side.
func (m *machine) turn(up bool, reason string, now time.Time) {
	m.Up, m.Reason, m.Since, m.row = up, reason, now, 0
}
