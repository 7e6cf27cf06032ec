package worker

import (
	"fmt"

	"sluice/pipeline"
	"sluice/pipeline/counter"
)

// Counted is what a worker counts. It lies in memory that can outlive the process, so that the next
// process goes on with the counts: package takeover. The worker writes it with plain stores, in an
// order that tells, wherever the process was killed, which frames it had in its hands:
//
//   - A frame is received when the RX ring's index has passed it. It is counted under its verdict
//     later, so that those received and not counted are known.
//   - A frame that is to be sent is counted before it is put on a TX ring, which has an index, too.
//
// The counts under verdicts, and of queues, begin with the process; what former processes counted
// stands beside them.
type Counted struct {
	*Totals
	Queues   []QueueTotals
	Backends []counter.Backend // by number
	Services []counter.Service // by number
}

// Totals is what a worker counts once.
type Totals struct {
	Packets counter.Packets // of this process
	Former  counter.Packets // of those before

	// of all processes
	Turns, BusyTurns, Frames, Sleeps uint64
	BusyNs, RunNs                    uint64 // in turns that had frames, and in the loop
	StageNs                          [stages]uint64
	// Gaps: ns between the starts of two turns without a sleep between them
	Gaps Histogram
}

// Add adds what a worker of a former process counted.
func (t *Totals) Add(o *Totals) {
	t.Packets.Add(&o.Packets)
	t.Former.Add(&o.Former)
	t.Turns, t.BusyTurns, t.Frames, t.Sleeps = t.Turns+o.Turns, t.BusyTurns+o.BusyTurns, t.Frames+o.Frames, t.Sleeps+o.Sleeps
	t.BusyNs, t.RunNs = t.BusyNs+o.BusyNs, t.RunNs+o.RunNs
	for s := range t.StageNs {
		t.StageNs[s] += o.StageNs[s]
	}
	t.Gaps.Add(&o.Gaps)
}

// QueueTotals is what a worker counts at one of its queues.
type QueueTotals struct {
	Port, Number   uint64 // place in the configuration, and number at the interface
	RxIndex        uint64 // of the RX ring when Rx was 0, modulo 2^32
	TxIndex        uint64 // likewise
	Rx, Tx, TxFull uint64 // of this process

	FormerRx, FormerTx, FormerTxFull uint64
}

// begin notes where the rings of a socket stand that the queue has now.
func (q *QueueTotals) begin(rxIndex, txIndex uint32) {
	q.RxIndex, q.TxIndex = uint64(rxIndex-uint32(q.Rx)), uint64(txIndex-uint32(q.Tx))
}

// Settle makes Rx and Tx agree with the indices of the rings, which are right wherever the process
// was killed.
func (q *QueueTotals) Settle(rxIndex, txIndex uint32) {
	q.Rx += uint64(rxIndex - uint32(q.RxIndex+q.Rx))
	q.Tx += uint64(txIndex - uint32(q.TxIndex+q.Tx))
}

// CountersName is the name of the memory of a worker's Counted.
func CountersName(worker int) string { return fmt.Sprintf("counters.%d", worker) }

// counted returns a worker's Counted, all 0.
func (o *Options) counted(worker, queues int) (Counted, error) {
	backends, services := o.Loads.Len(), o.Turns.Len()
	bytes := countedBytes(queues, backends, services)
	if o.Counters == nil {
		return countedIn(make([]byte, bytes), queues, backends, services), nil
	}
	mem, err := o.Counters(CountersName(worker), bytes)
	if err != nil {
		return Counted{}, fmt.Errorf("counters of worker %d: %w", worker, err)
	}
	return countedIn(mem, queues, backends, services), nil
}

// Counted returns what the worker counts. It is called on the worker, or before Launch.
func (w *Worker) Counted() *Counted { return &w.counted }

// forPipeline returns the part that the pipeline counts.
func (c *Counted) forPipeline() pipeline.Counted {
	return pipeline.Counted{Packets: &c.Packets, Backends: c.Backends, Services: c.Services}
}
