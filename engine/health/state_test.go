package health

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestTransitions covers the whole transition table for rise 2, fall 3. A machine is its state and
// its row of contradicting results.
//
//	state  row  success       failure
//	up     0    up 0          up 1
//	up     1    up 0          up 2
//	up     2    up 0          down 0, reported
//	down   0    down 1        down 0
//	down   1    up 0, reported down 0
func TestTransitions(t *testing.T) {
	check := Check{Type: TCP, Rise: 2, Fall: 3}
	failure := errors.New("refused")
	began := time.Unix(1000, 0)
	ended := began.Add(time.Second)
	for _, c := range []struct {
		up      bool
		row     int
		result  error
		wantUp  bool
		wantRow int
		changed bool
	}{
		{true, 0, nil, true, 0, false}, {true, 0, failure, true, 1, false},
		{true, 1, nil, true, 0, false}, {true, 1, failure, true, 2, false},
		{true, 2, nil, true, 0, false}, {true, 2, failure, false, 0, true},
		{false, 0, nil, false, 1, false}, {false, 0, failure, false, 0, false},
		{false, 1, nil, true, 0, true}, {false, 1, failure, false, 0, false},
	} {
		m := stateMachine{State: State{Up: c.up, Since: began, Reason: "before", Checked: began}, row: c.row}
		changed := m.record(c.result, check, began, ended)
		if m.Up != c.wantUp || m.row != c.wantRow || changed != c.changed {
			t.Errorf("up %v row %d, result %v: up %v row %d changed %v, want %v %d %v",
				c.up, c.row, c.result, m.Up, m.row, changed, c.wantUp, c.wantRow, c.changed)
		}
		if m.Failing != (c.result != nil) || m.Failed.Equal(ended) != m.Failing {
			t.Errorf("up %v row %d, result %v: failing %v since %v", c.up, c.row, c.result, m.Failing, m.Failed)
		}
		if m.Since.Equal(ended) != c.changed || (m.Reason != "before") != c.changed {
			t.Errorf("up %v row %d, result %v: since %v because %q", c.up, c.row, c.result, m.Since, m.Reason)
		}
		if m.Checked != ended || m.Took != time.Second || (m.Last == "") != (c.result == nil) {
			t.Errorf("last probe noted as %v %v %q", m.Checked, m.Took, m.Last)
		}
	}
}

// TestTransitionsAtOnce checks that every result decides with rise and fall 1.
func TestTransitionsAtOnce(t *testing.T) {
	check := Check{Type: TCP, Rise: 1, Fall: 1}
	m := start(time.Unix(1000, 0))
	if !m.record(errors.New("refused"), check, time.Unix(1001, 0), time.Unix(1002, 0)) || m.Up {
		t.Error("one failure is not enough")
	}
	if !m.record(nil, check, time.Unix(1003, 0), time.Unix(1004, 0)) || !m.Up {
		t.Error("one success is not enough")
	}
}

// TestFirstResult checks the reason before and after the first result.
func TestFirstResult(t *testing.T) {
	m := start(time.Unix(1000, 0))
	check := Check{Type: Ping, Rise: 2, Fall: 3}
	if m.record(nil, check, time.Unix(1001, 0), time.Unix(1001, 0)) || !strings.HasSuffix(m.Reason, "works") || !m.Since.Equal(time.Unix(1000, 0)) {
		t.Errorf("%+v", m)
	}
}
