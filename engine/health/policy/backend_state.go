package policy

import (
	"time"

	"sluice/engine/health"
	"sluice/engine/override"
)

// The states of a backend that operators see.
const (
	Up      = "up"
	Down    = "down"
	Drain   = "drain"
	Standby = "standby" // a sorry server that is not needed
)

// BackendState is the state of a backend as operators see it.
type BackendState struct {
	State  string // Up, Down, Drain or Standby
	Since  time.Time
	Reason string
}

// backendState returns the backend's state and the reason for it. Since is set only if the checks
// decided.
func (b *Backend) backendState() BackendState {
	reason := "not checked"
	if b.Checked {
		reason = b.Check.Reason
	}
	if b.frozen {
		reason = "frozen by an operator; before: " + reason
	}
	switch {
	case b.Unreachable != "" && b.Checked:
		return BackendState{State: Down, Reason: b.Unreachable + "; its check: " + reason}
	case b.Unreachable != "":
		return BackendState{State: Down, Reason: b.Unreachable}
	case b.Checked && !b.Check.Up && b.Protected != "":
		return BackendState{Down, b.Check.Since, reason + "; stays in use: " + b.Protected}
	case b.Checked && !b.Check.Up:
		return BackendState{Down, b.Check.Since, reason}
	case b.Weight > 0:
		return BackendState{Up, b.Check.Since, reason}
	}
	switch b.Override {
	case override.Weight:
		return BackendState{State: Drain, Reason: "an operator set weight 0"}
	case override.Drain:
		return BackendState{State: Drain, Reason: "an operator drains it"}
	case override.Disable:
		return BackendState{State: Drain, Reason: "an operator disabled it"}
	}
	return BackendState{State: Drain, Reason: "the file has weight 0"}
}

// sorryState is backendState of a sorry server.
func (b *Backend) sorryState(inUse bool) BackendState {
	switch {
	case b.Unreachable != "":
		return BackendState{State: Down, Reason: b.Unreachable}
	case inUse:
		return BackendState{State: Up, Reason: "no backend is up with a weight above 0"}
	}
	return BackendState{State: Standby, Reason: "some backend is up"}
}

// date sets Since: the state lasts since it was entered, whatever happens meanwhile. before is the
// backend's previous state, or nil.
func (b *Backend) date(before *Backend, now time.Time) {
	switch {
	case before != nil && before.State == b.State:
		b.Since = before.Since
	case b.Since.IsZero() || before != nil && b.Since.Before(before.Since):
		b.Since = now
	}
}

// Refreshed returns the backend with what its last check returned since the step, and the reason
// that goes with it. Both may change while a state lasts.
func (b Backend) Refreshed(latest health.State) Backend {
	if !b.Checked {
		return b
	}
	b.Check.Last = latest.Last
	if latest.Up == b.Check.Up && !b.frozen {
		b.Check.Reason = latest.Reason
	}
	b.Reason = b.backendState().Reason
	return b
}
