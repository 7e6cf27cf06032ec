package policy

import (
	"time"

	"sluice/conf"
)

// WeightSteps is the number of portions in which the weight of a starting backend grows.
//
// Slow start: a backend that comes up, or that a reload adds to a service, begins with
// 1/WeightSteps of its weight and gains another portion with every 1/(WeightSteps-1) of slow_start.
// A backend that exists when the daemon starts, or when its service is configured, has all of its
// weight at once, as all backends of that service do.
const WeightSteps = 16

// startSlowly decides which portion of their weight backends have. A backend starts when it was
// down and is not any more, and when it is new in a service that was known before.
func (out *serviceState) startSlowly(svc *conf.Service, prev *State, before *serviceState, known bool, now time.Time) {
	for i := range out.backends {
		b := &out.backends[i]
		was := before.backend(prev, b.ID)
		switch {
		case was == nil && known, was != nil && was.Down && !b.Down && b.Protected == "":
			b.starting = now
		case was != nil:
			b.starting = was.starting
		}
		if b.starting.IsZero() {
			continue
		}
		portion, due := slowStart(b.starting, svc.SlowStart, now)
		if b.Down || b.Weight == 0 || portion == WeightSteps {
			b.starting = time.Time{}
			continue
		}
		b.SlowStart = portion
		if out.due.IsZero() || due.Before(out.due) {
			out.due = due
		}
	}
}

// slowStart returns the portion of its weight, from 1 to WeightSteps, that a backend has that
// started at the given time and has all of it after so long, and when it gets the next portion.
func slowStart(started time.Time, after time.Duration, now time.Time) (portion int, due time.Time) {
	const steps = WeightSteps - 1
	if now.Sub(started) >= after {
		return WeightSteps, time.Time{}
	}
	portion = 1 + int(now.Sub(started)*steps/after)
	return portion, started.Add((time.Duration(portion)*after + steps - 1) / steps)
}
