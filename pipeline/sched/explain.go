package sched

import (
	"fmt"

	"sluice/pipeline/counter"
)

// Explanation is what a scheduler decides by, in words.
type Explanation struct {
	Rule    string   // one line: what was compared, and the result
	Figures []string // by candidate: what was compared, "" if nothing
}

// asked is what Pick is called with, and the names of the candidates. The State is a copy.
type asked struct {
	st    State
	loads *counter.Loads
	key   *Key
	name  func(i int) string
}

// Explain returns what Pick decides by, given the same arguments, and changes nothing. name returns
// the name of a candidate by its index.
func Explain(s Scheduler, st State, loads *counter.Loads, k *Key, name func(i int) string) Explanation {
	return s.explain(&asked{st, loads, k, name})
}

// least lists what a scheduler compares that walks over all servers.
func (a *asked) least(rule string, servers []server, figure func(*server, counter.Load) string) Explanation {
	w := Explanation{Rule: rule}
	for i := range servers {
		v := &servers[i]
		l := a.loads.Of(v.id)
		w.set(int(v.index), fmt.Sprintf("%s (%d active, %d inactive)", figure(v, l), l.Active, l.Inactive))
	}
	return w
}

func (w *Explanation) set(candidate int, figure string) {
	for len(w.Figures) <= candidate {
		w.Figures = append(w.Figures, "")
	}
	w.Figures[candidate] = figure
}
