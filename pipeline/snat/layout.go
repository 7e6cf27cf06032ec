package snat

import (
	"math/bits"

	"sluice/pipeline/flow"
)

// layout is which ports a worker has, of all of a source's towards one backend. It is immutable,
// and shared by all pools for which ports are divided alike.
type layout struct {
	words [1024]layoutWord
}

// layoutWord is what a look-up needs of 64 ports.
type layoutWord struct {
	ours   uint64 // bit per port
	before uint64 // number of our ports in the words before
}

// newLayout makes a layout. mine returns the worker's ports among the 64 from 64*w on.
func newLayout(mine func(w int) uint64) *layout {
	l := new(layout)
	ours := 0
	for w := FirstPort >> 6; w < len(l.words); w++ {
		word := mine(w)
		l.words[w] = layoutWord{ours: word, before: uint64(ours)}
		ours += bits.OnesCount64(word)
	}
	return l
}

// has reports whether the port is the worker's.
func (w *layoutWord) has(port uint16) bool { return w.ours>>(port&63)&1 != 0 }

// index returns how many of the worker's ports are below port, which is one of them.
func (w *layoutWord) index(port uint16) int {
	return int(w.before) + bits.OnesCount64(w.ours&(1<<(port&63)-1))
}

// Layouts holds the layouts of pools that are made together, so that equal ones are shared. nil
// shares none.
type Layouts map[layoutName]*layout

// layoutName is what a layout follows from.
type layoutName struct {
	owners          *flow.PortOwners // nil: in turn
	class           uint32           // of the base
	worker, workers int
}

// of returns the layout of a worker's pools for the ref.
func (l Layouts) of(r *Ref, worker, workers int) *layout {
	name := layoutName{owners: r.Owners, worker: worker, workers: workers}
	if r.Owners != nil {
		name.class = r.Owners.Class(r.Base)
	}
	made, known := l[name]
	if !known {
		made = newLayout(func(w int) uint64 { return r.ports(worker, workers, w) })
		if l != nil {
			l[name] = made
		}
	}
	return made
}
