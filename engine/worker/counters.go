package worker

import (
	"sluice/engine/platform"
	"sluice/pipeline/counter"
)

// Counters is what a worker has counted, also in former processes, and what it owns now.
type Counters struct {
	Packets counter.Packets

	Turns, BusyTurns uint64 // turns of the loop, and those that had frames
	Frames           uint64 // that those turns had
	Sleeps           uint64
	// OwnSleeps and OwnFrames are those of this process, as are system calls of queues.
	OwnSleeps, OwnFrames uint64

	BusyNs, RunNs                    uint64     // in busy turns, and in the loop
	ReceiveNs, ProcessNs, TransmitNs uint64     // of BusyNs
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
	t := w.counted.Totals
	c := Counters{
		Packets: t.Former,
		Turns:   t.Turns, BusyTurns: t.BusyTurns, Frames: t.Frames, Sleeps: t.Sleeps,
		OwnSleeps: t.Sleeps - w.before.Sleeps, OwnFrames: t.Frames - w.before.Frames,
		BusyNs: t.BusyNs, RunNs: w.ran(),
		ReceiveNs: t.StageNs[receiving], ProcessNs: t.StageNs[processing], TransmitNs: t.StageNs[transmitting],
		Gaps:   &t.Gaps,
		Conns4: v4, Conns6: v6, FramesFree: len(w.frames.free),
	}
	c.Packets.Add(&t.Packets)
	for _, q := range w.queues {
		k := q.counted
		n := QueueCounters{Port: int(q.port), Index: q.index, Number: q.number, Rx: k.FormerRx + k.Rx, Tx: k.FormerTx + k.Tx, TxFull: k.FormerTxFull + k.TxFull}
		if q.Queue != (closedQueue{}) { // else the platform may be busy with the port
			n.Platform = on.Stats(n.Port, n.Number)
		}
		c.Queues = append(c.Queues, n)
	}
	return c
}

// ran returns the time that the worker's loop has run, in ns, also in former processes.
func (w *Worker) ran() uint64 { return w.before.RunNs + uint64(nowNs()-w.startNs) }
