// Package override holds the values that operators set at run time for a backend: drain, disable
// and a weight. Everything here is a value: there is no clock, no lock and no file. The engine
// holds the set that is in force, publishes tables for it and stores its encoded form.
package override

import "time"

// State is what an override does to new connections. Its values are those of the stored form.
type State string

// The states. Weight is never stored: it is the state of an override that has a weight only.
const (
	None   State = ""
	Weight State = "weight" // the weight set at run time applies
	// Drain: no new connections; existing ones continue until the deadline, if any
	Drain   State = "drain"
	Disable State = "disable" // no new connections; existing ones end
)

// MaxWeight is the greatest weight of a backend.
const MaxWeight = 65535

// Override is what an operator set for one backend. It is a value: the pointer's target is never
// written.
type Override struct {
	State      State     // None, Drain or Disable
	Weight     *int      // nil: the configured weight applies
	FileWeight int       // the configured weight when Weight was set: Weight yields to another one
	Deadline   time.Time // of a drain; zero: none
	Since      time.Time
}

// Empty reports whether o changes nothing.
func (o Override) Empty() bool { return o.State == None && o.Weight == nil }

// EffectiveWeight returns the weight that applies to a backend with the given configured weight.
func (o Override) EffectiveWeight(configured int) int {
	switch {
	case o.State != None:
		return 0
	case o.Weight != nil && o.FileWeight == configured:
		return *o.Weight
	}
	return configured
}

// Evicts reports whether the backend's existing connections must end at the given time.
func (o Override) Evicts(now time.Time) bool {
	return o.State == Disable || o.State == Drain && !o.Deadline.IsZero() && !now.Before(o.Deadline)
}

// Kind returns the state to report: Weight for an override that has a weight only.
func (o Override) Kind() State {
	if o.State == None && o.Weight != nil {
		return Weight
	}
	return o.State
}

// Yields reports whether o has a weight that does not apply any more because the configured weight
// is not the one that it replaced.
func (o Override) Yields(configured int) bool { return o.Weight != nil && o.FileWeight != configured }

// WithoutWeight returns o without its weight.
func (o Override) WithoutWeight() Override {
	o.Weight = nil
	return o
}

// Enabled returns o without its drain or disable, and without a weight of 0.
func (o Override) Enabled() Override {
	o.State, o.Deadline = None, time.Time{}
	if o.Weight != nil && *o.Weight == 0 {
		o.Weight = nil
	}
	return o
}

// WithState returns o with the state Drain or Disable. A deadline of 0 means none.
func (o Override) WithState(state State, now time.Time, deadline time.Duration) Override {
	o.State, o.Deadline = state, time.Time{}
	if deadline > 0 {
		o.Deadline = now.Add(deadline)
	}
	return o
}

// LastWeight returns the weight above 0 that was set at run time and applies when no drain does.
// The mh scheduler retains the backend's place by it. It returns 0 if there is none.
func (o Override) LastWeight(configured int) int {
	if o.Weight != nil && *o.Weight > 0 && o.FileWeight == configured {
		return *o.Weight
	}
	return 0
}

// OfWeight returns the override that gives a backend the weight: an empty one if the weight is the
// configured one.
func OfWeight(weight, configured int) Override {
	if weight == configured {
		return Override{}
	}
	return Override{Weight: &weight, FileWeight: configured}
}
