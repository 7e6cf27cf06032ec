package counter

import "sync/atomic"

// Load is the number of connections of a backend. Active and inactive are as in IPVS: TCP
// established or being set up is active (ip_vs_proto_tcp.c); everything else, and all UDP, is
// inactive.
type Load struct{ Active, Inactive uint32 }

// Loads holds the connection counts per backend id that schedulers choose by. There is one row per
// worker, written by that worker alone and read by all; a backend's load is the sum of its column.
//
//	           backend 0        backend 1     ...
//	worker 0  [active|inactive][active|inactive] ... padding
//	worker 1  [active|inactive][active|inactive] ... padding
//
// A cell is one 64-bit word, so that a reader never sees one half of an update. Memory: 8 bytes per
// worker and backend.
type Loads struct {
	rows [][]cell
	full []atomic.Bool // by backend id: shared by all workers, who write it if it changes
}

// cell is active<<32 | inactive. A worker's half may be below zero (modulo 2^32) after it removed a
// connection that another worker had counted; the sum over all rows is right.
type cell struct{ atomic.Uint64 }

// cellsPerLine is the number of cells in a cache line of 64 bytes.
const cellsPerLine = 8

// NewLoads makes rows for that many workers and for the backend ids 0 to backends-1; neither grows
// later.
func NewLoads(workers, backends int) *Loads {
	// Two whole lines stand between the last cell of a row and the first of the next: one, so that
	// no line has two writers wherever the allocation starts; one more, because CPUs prefetch lines
	// in pairs.
	stride := (backends+cellsPerLine-1)/cellsPerLine*cellsPerLine + 2*cellsPerLine
	cells := make([]cell, workers*stride)
	l := &Loads{rows: make([][]cell, workers), full: make([]atomic.Bool, backends)}
	for w := range l.rows {
		row := cells[w*stride:]
		l.rows[w] = row[:backends:backends]
	}
	return l
}

// Len is the number of backend ids.
func (l *Loads) Len() int { return len(l.rows[0]) }

// Add changes worker's counts of backend by the given differences. Only the worker itself may call
// it. It panics when worker or backend is out of the range given to NewLoads.
func (l *Loads) Add(worker int, backend uint32, active, inactive int32) {
	c := &l.rows[worker][backend]
	v := c.Load()
	// A plain read, change and write is enough: the cell has one writer.
	c.Store(uint64(uint32(v>>32)+uint32(active))<<32 | uint64(uint32(v)+uint32(inactive)))
}

// Full reports what SetFull has set. Any worker may call it.
func (l *Loads) Full(backend uint32) bool { return l.full[backend].Load() }

// SetFull notes whether the backend takes no more connections until some have ended. Any worker may
// call it.
func (l *Loads) SetFull(backend uint32, full bool) {
	if l.full[backend].Load() != full {
		l.full[backend].Store(full)
	}
}

// Of sums the counts of backend over all workers. Any goroutine may call it. Each worker's part is
// exact as of the moment it was read; the moments differ by nanoseconds. It panics when backend is
// out of range.
func (l *Loads) Of(backend uint32) Load {
	var sum Load
	for _, row := range l.rows {
		v := row[backend].Load()
		sum.Active += uint32(v >> 32)
		sum.Inactive += uint32(v)
	}
	return sum
}
