// Package pressure says which services are under pressure: their new connections find the service's
// part of the connection table used up, the table full, or no SNAT port. It is a function of what
// the workers have counted and of the time; the engine asks the workers once a second.
package pressure

import (
	"maps"
	"slices"
	"time"

	"sluice/pipeline/counter"
)

const (
	// calm is how long after the last such connection the pressure is over, and the time over which
	// rates are averaged.
	calm = 5 * time.Second
)

// State is the pressure on a service. Its counts are since it began.
type State struct {
	Since     time.Time
	Last      time.Time // of the last step with such connections
	PerSecond float64   // new connections that found no free entry or SNAT port, lately
	FoundFull uint64    // all of them
	Refused   uint64    // of FoundFull, those that were dropped
	Untracked uint64    // of FoundFull, those that a hash forwarded
	Sources   []Share   // the busiest prefixes that they come from, lately
}

// Displacing returns how many of FoundFull took the place of other connections.
func (s *State) Displacing() uint64 { return s.FoundFull - s.Refused - s.Untracked }

// Change is the begin or the end of the pressure on a service.
type Change struct {
	Service uint32 // number
	Ended   bool
	State
}

// Watch follows the pressure on all services.
type Watch struct {
	at      time.Time
	elapsed time.Duration       // from the step before to at
	last    []counter.Service   // by number of the service
	under   map[uint32]*episode // services under pressure, likewise

	firsts    map[uint32]*firsts // services with many first packets, likewise
	lastFirst []counter.Service  // counts of the last step, nil if it had none
}

// New returns the Watch of workers that have counted nothing yet.
func New(now time.Time) *Watch {
	return &Watch{at: now, under: make(map[uint32]*episode), firsts: make(map[uint32]*firsts)}
}

// Any reports whether a service is under pressure or has many first packets.
func (w *Watch) Any() bool { return len(w.under)+len(w.firsts) > 0 }

// Of returns the pressure on the service with a number; false: there is none.
func (w *Watch) Of(number uint32) (State, bool) {
	if e := w.under[number]; e != nil {
		return e.State, true
	}
	return State{}, false
}

// Step takes in what the workers have counted: counts are by number of the service, and may be nil
// if there are no new connections without a free entry; sources are those since the last step. It
// returns what has begun and ended, by number.
func (w *Watch) Step(now time.Time, counts []counter.Service, sources []counter.PrefixCount) (changes []Change) {
	elapsed := now.Sub(w.at)
	w.at, w.elapsed = now, elapsed
	for _, e := range w.under {
		e.sources.fade()
	}
	for n := range counts {
		number, c, was := uint32(n), &counts[n], before(w.last, n, counts[n].Of)
		if e := w.under[number]; e != nil && e.of != c.Of {
			delete(w.under, number)
		}
		if c.FoundFull <= was.FoundFull {
			continue
		}
		e := w.under[number]
		if e == nil {
			e = &episode{State: State{Since: now}, of: c.Of, sources: newPrefixes()}
			w.under[number] = e
		}
		e.add(now, elapsed, c, &was)
	}
	if counts != nil {
		w.last = counts
	}
	for _, s := range sources {
		if e := w.under[s.Service]; e != nil {
			e.sources.add(&s)
		}
	}
	for _, number := range slices.Sorted(maps.Keys(w.under)) {
		e := w.under[number]
		e.sum(now)
		switch {
		case e.Since.Equal(now):
			changes = append(changes, Change{number, false, e.State})
		case len(e.steps) == 0:
			changes = append(changes, Change{number, true, e.State})
			delete(w.under, number)
		}
	}
	return changes
}

// before returns the counts of a service in those of a step before, zero if its number was
// another's.
func before(last []counter.Service, number int, of uint64) counter.Service {
	if number < len(last) && last[number].Of == of {
		return last[number]
	}
	return counter.Service{}
}

// episode is the pressure on a service, from its begin to its end.
type episode struct {
	State
	of      uint64 // counter.Service.Of
	steps   []step // of the last time calm, those with new connections without a free entry
	sources prefixes
}

// step is what has come since the step before, which was elapsed earlier.
type step struct {
	at      time.Time
	elapsed time.Duration
	n       uint64
}

// add adds what has come since the step before.
func (e *episode) add(now time.Time, elapsed time.Duration, c, was *counter.Service) {
	n := c.FoundFull - was.FoundFull
	e.Last = now
	e.steps = append(e.steps, step{now, elapsed, n})
	e.sources.all += float64(n)
	e.FoundFull += n
	// A packet can be dropped as table_full although there are free entries: too far away.
	refused := min(n, growth(was.TableFull, c.TableFull)+growth(was.SNATExhausted, c.SNATExhausted))
	e.Refused += refused
	e.Untracked += min(n-refused, growth(was.Untracked, c.Untracked))
}

func growth(before, now uint64) uint64 { return max(before, now) - before }

// sum sets what State has from the last steps.
func (e *episode) sum(now time.Time) {
	e.steps = slices.DeleteFunc(e.steps, func(s step) bool { return now.Sub(s.at) >= calm })
	n, from := uint64(0), now
	for _, s := range e.steps {
		n += s.n
		if begin := s.at.Add(-s.elapsed); begin.Before(from) {
			from = begin
		}
	}
	e.PerSecond = 0
	if elapsed := now.Sub(from); elapsed > 0 {
		e.PerSecond = float64(n) / elapsed.Seconds()
	}
	e.Sources = e.sources.busiest()
}
