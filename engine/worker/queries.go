package worker

import (
	"sluice/pipeline"
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
)

// ID returns the worker's number. Any goroutine may call it.
func (w *Worker) ID() int { return w.id }

// CPU returns the CPU that the worker runs on. Any goroutine may call it.
func (w *Worker) CPU() int { return w.cpu }

// Processor returns the worker's pipeline. It is called, and the pipeline used, on the worker.
func (w *Worker) Processor() *pipeline.Processor { return w.proc }

// AddTraffic adds what the worker counted for the backends with the ids first, first+1 and so on.
// It is called on the worker.
func (w *Worker) AddTraffic(sums []counter.Backend, first int) {
	for i := range sums {
		sums[i].Add(&w.proc.Backends[first+i])
	}
}

// AddRefusals adds what the worker counted for the services with the ids first, first+1 and so on.
// It is called on the worker.
func (w *Worker) AddRefusals(sums []counter.Service, first int) {
	for i := range sums {
		sums[i].Add(&w.proc.Services[first+i])
		sums[i].Unproven += w.proc.Unproven(uint32(first + i))
	}
}

// TakeFull moves to full the source prefixes of new connections that found no free entry, and to
// first those of a sample of first packets that needed none. It is called on the worker.
func (w *Worker) TakeFull(full, first *counter.Prefixes) {
	*full, w.proc.Full = w.proc.Full, counter.Prefixes{}
	*first, w.proc.First = w.proc.First, counter.Prefixes{}
}

// MoveTraffic adds what the worker counted for each of the backends with these ids to sums, and
// counts from zero again. It is called on the worker.
func (w *Worker) MoveTraffic(sums []counter.Backend, ids []uint32) {
	for i, id := range ids {
		sums[i].Add(&w.proc.Backends[id])
		w.proc.Backends[id] = counter.Backend{}
	}
}

// connsPerVisit bounds how many table slots one call of Conns examines, so that packets wait no
// longer than for a sweep.
const connsPerVisit = 16384

// Conn is a copy of a connection table's entry.
type Conn struct {
	Entry  conn.Conn
	Client packet.Addr
	LeftMs int32 // until it expires
}

// Conns copies the live connections of a stretch of a table. The listing begins with a cursor of 0
// and ends when next is 0. It is called on the worker.
func (w *Worker) Conns(family int, cursor uint32) (found []Conn, next uint32) {
	t, now := w.proc.Table(family), NowMs()
	next = t.Scan(cursor, connsPerVisit, func(c *conn.Conn) {
		if !c.IsTemplate() && !c.Expired(now) {
			found = append(found, Conn{*c, t.Client(c), int32(c.Expires - now)})
		}
	})
	return found, next
}
