package pressure

import (
	"maps"
	"slices"
	"time"

	"sluice/pipeline/counter"
)

const (
	// many is how many first packets of a service per second are reported at least.
	many = 1000
	// floodShare is the least part of first packets of TCP, without a second one, that is a flood.
	floodShare = 0.5
	// firstSteps is how many steps First describes. Between a first packet and the second one may
	// be a step, in which more first packets come than before: the last step's are left out when
	// the two are compared.
	firstSteps = 5
)

// First describes the first packets of a service that a hash forwards without an entry
// (pipeline/first_packets.go), while they are many.
type First struct {
	Since     time.Time
	Last      time.Time // of the last step with many
	PerSecond float64   // lately
	Alone     float64   // part of them, 0 to 1, that no second packet of the client has followed
	Flood     bool      // so many are alone that they are forged, or the backends do not answer
	Sources   []Share   // their busiest prefixes, lately
}

// FirstChange is the begin or the end of a flood of first packets.
type FirstChange struct {
	Service uint32 // number
	Ended   bool
	First
}

// firsts is what Watch knows of the first packets of a service.
type firsts struct {
	First
	of      uint64 // counter.Service.Of
	steps   []firstStep
	sources prefixes
}

type firstStep struct {
	elapsed       time.Duration
	first, second uint64
}

// FirstOf returns the first packets of the service with a number; false: they are not many.
func (w *Watch) FirstOf(number uint32) (First, bool) {
	if f := w.firsts[number]; f != nil {
		return f.First, true
	}
	return First{}, false
}

// Many reports whether so many first packets come from these sources that a step needs the counts
// of services.
func Many(first []counter.PrefixCount) bool {
	n := 0
	for i := range first {
		n += int(first[i].Count - first[i].Over)
	}
	return n >= many
}

// StepFirst takes in what the workers have counted of first packets, like Step, after which it is
// called. tcp reports whether a service is one of TCP, where a first packet alone opens nothing: of
// UDP it may be all that a client says, so that no number of them is a flood.
func (w *Watch) StepFirst(counts []counter.Service, first []counter.PrefixCount, tcp func(number uint32) bool) (changes []FirstChange) {
	for n := range counts {
		if w.lastFirst == nil {
			break // the step before had no counts
		}
		number, c, was := uint32(n), &counts[n], before(w.lastFirst, n, counts[n].Of)
		came := firstStep{w.elapsed, growth(was.First, c.First), growth(was.Second, c.Second)}
		if float64(came.first) >= many*w.elapsed.Seconds() && w.firsts[number] == nil {
			w.firsts[number] = &firsts{First: First{Since: w.at}, of: c.Of, sources: newPrefixes()}
		}
		if f := w.firsts[number]; f != nil && f.of == c.Of {
			f.add(came)
		}
	}
	w.lastFirst = counts
	for _, s := range first {
		if f := w.firsts[s.Service]; f != nil {
			f.sources.add(&s)
		}
	}
	for _, number := range slices.Sorted(maps.Keys(w.firsts)) {
		f := w.firsts[number]
		flood, gone := f.Flood, int(number) < len(counts) && counts[number].Of != f.of
		f.sum(w.at, tcp(number))
		over := gone || w.at.Sub(f.Last) >= calm
		f.Flood = f.Flood && !over
		if f.Flood != flood {
			changes = append(changes, FirstChange{number, flood, f.First})
		}
		if over {
			delete(w.firsts, number)
		}
	}
	return changes
}

// add adds a step.
func (f *firsts) add(s firstStep) {
	f.sources.fade()
	f.sources.all += float64(s.first)
	if f.steps = append(f.steps, s); len(f.steps) > firstSteps {
		f.steps = f.steps[1:]
	}
}

// sum sets what First has from the last steps.
func (f *firsts) sum(now time.Time, tcp bool) {
	var elapsed time.Duration
	var first, second, before uint64 // before: first without the last step's
	for _, s := range f.steps {
		elapsed += s.elapsed
		before = first
		first, second = first+s.first, second+s.second
	}
	if f.PerSecond = 0; elapsed > 0 {
		f.PerSecond = float64(first) / elapsed.Seconds()
	}
	if f.PerSecond >= many {
		f.Last = now
	}
	f.Alone = max(0, 1-float64(second)/float64(max(before, 1)))
	if len(f.steps) >= 3 {
		f.Flood = tcp && f.Alone >= floodShare && f.PerSecond*f.Alone >= many
	}
	f.Sources = f.sources.busiest()
}
