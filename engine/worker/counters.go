package worker

import (
	"sluice/engine/platform"
	"sluice/pipeline/counter"
)

// Counters is what a worker has counted since it was started, and what it owns now.
type Counters struct {
	Packets counter.Packets

	Turns, BusyTurns uint64 // turns of the loop, and those that had frames
	Frames           uint64 // that those turns had
	Sleeps           uint64

	BusyNs, RunNs                    int64      // in busy turns, and since the start
	ReceiveNs, ProcessNs, TransmitNs int64      // of BusyNs
	Gaps                             *Histogram // ns from turn to turn; use it on the worker only

	Conns4, Conns6 int
	FramesFree     int
	Queues         []QueueCounters
}

// QueueCounters is what a worker has counted at one of its queues.
type QueueCounters struct {
	Port, Index    int // the port, and which of the port's queues
	Number         int // at the interface
	Rx, Tx, TxFull uint64
	Platform       platform.QueueStats
}

// Counters returns the worker's counters. It is called on the worker, between batches, when all its
// frames are on a ring or free.
func (w *Worker) Counters(on platform.Platform) Counters {
	v4, v6 := w.proc.Entries()
	c := Counters{
		Packets: w.proc.Packets,
		Turns:   w.stats.turns, BusyTurns: w.stats.busyTurns, Frames: w.stats.frames, Sleeps: w.stats.sleeps,
		BusyNs: w.clock.busyNs, RunNs: nowNs() - w.startNs,
		ReceiveNs: w.clock.stageNs[receiving], ProcessNs: w.clock.stageNs[processing], TransmitNs: w.clock.stageNs[transmitting],
		Gaps:   &w.clock.gaps,
		Conns4: v4, Conns6: v6, FramesFree: len(w.frames.free),
	}
	for _, q := range w.queues {
		n := QueueCounters{Port: int(q.port), Index: q.index, Number: q.number, Rx: q.rx, Tx: q.tx, TxFull: q.txFull}
		if q.Queue != (closedQueue{}) { // else the platform may be busy with the port
			n.Platform = on.Stats(n.Port, n.Number)
		}
		c.Queues = append(c.Queues, n)
	}
	return c
}
