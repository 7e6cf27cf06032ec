// Package worker moves frames: it is the loop of receive, process, transmit on each of the engine's CPUs.
//
// A Set has one Worker per CPU. Each runs its loop in one goroutine that is locked to a thread and
// pinned to the CPU (workerset.go, worker.go). A Worker owns its queues, its frames (frames.go), its
// connection tables and its counters; only its goroutine touches them. Others reach it in four ways:
// the rings on which workers hand frames to each other (handover.go) and return them, the pointer to
// the tables, which the engine stores and a worker loads once per batch, the rings of a Tap (tap.go),
// and Do, which has the worker call a function between two batches (sleep.go).
//
// Nothing on the way of a packet takes a lock, allocates or makes a system call for one packet.
//
// The package imports platform, cpu, filter, rings and the pipeline. It does not know the engine, the
// configuration or who builds the tables.
package worker

import (
	"log/slog"
	"sync"
	"sync/atomic"

	"sluice/engine/cpu"
	"sluice/engine/platform"
	"sluice/pipeline"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/rings"
)

// Worker is one OS thread on one CPU that takes frames from its own queues, runs them through the
// pipeline and sends them on. All fields belong to its goroutine, unless they say otherwise.
type Worker struct {
	id, cpu int
	batch   int
	log     *slog.Logger

	umem    []byte
	stock   *stock
	queues  []*ownQueue // receive and send
	egress  []egress    // by port
	handOut []outbox    // by worker
	handIn  []*rings.Consumer[rings.Desc]
	next    int // queue that the next turn begins with, so that none starves

	handNext int // hand-over ring that the next turn begins with, likewise
	handed   int // frames per turn that may come from hand-over rings

	proc   *pipeline.Processor
	tables *atomic.Pointer[pipeline.Tables] // the engine stores, workers load
	work   *pipeline.Batch
	addrs  []uint64     // chunk address of each frame in work
	descs  []rings.Desc // scratch

	bell    bell
	sleeper *cpu.Sleeper
	waking  sync.RWMutex // held by those who ask while they ring, and to take the bell away
	mailbox chan func()  // what other goroutines want done between two batches
	tapping *tapping     // nil: nobody looks on
	stop    atomic.Bool  // set by anyone
	done    chan struct{}
	want    func(packet.Addr) // asks the control plane to resolve a neighbour; must not block
	poll    bool              // sleep when idle; false: spin always

	clock    clock
	startNs  int64
	idle     int // turns in a row that found nothing
	tickedMs uint32
	behind   bool // the sweep is
	stats    workerStats
}

// workerStats counts what the loop itself does.
type workerStats struct {
	turns, busyTurns, frames, sleeps uint64
}

// ownQueue is a queue of this worker's.
type ownQueue struct {
	platform.Queue
	name   string // of the port
	port   uint8
	index  int // among the port's queues here
	number int // at the port

	rx, tx, reclaimed, txFull uint64
	faultMs                   uint32 // tick of the last error that was logged
}

// egress is how this worker reaches a port: by its own queue there, or by way of another worker.
type egress struct {
	queue *ownQueue
	relay int             // worker, if queue is nil; -1: nobody has a queue there
	descs [3][]rings.Desc // what this turn sends there: forwarded, answers, our own
}

// run is the worker's life, on its own locked thread.
func (w *Worker) run() {
	w.startNs = nowNs()
	for !w.stop.Load() {
		w.clock.turn()
		n := w.receive()
		w.process(n)
		w.transmit(n)
		w.tick(n)
	}
}

// receive fills the batch: up to a half with frames that other workers handed over - they have
// waited longest, but handing over is cheaper than what is left to do, and must not starve the
// worker's own queues - and the rest from those in turn.
func (w *Worker) receive() (n int) {
	if w.handNext++; w.handNext == len(w.handIn) {
		w.handNext = 0
	}
	for i := range w.handIn {
		from := (w.handNext + i) % len(w.handIn)
		if ring := w.handIn[from]; ring != nil && n < w.handed {
			n = w.receiveHanded(from, ring, n)
		}
	}
	for range w.queues {
		q := w.queues[w.next]
		if w.next++; w.next == len(w.queues) {
			w.next = 0
		}
		got := q.Receive(w.descs[:w.batch-n])
		for _, d := range w.descs[:got] {
			w.take(n, d, q.port, 0)
			n++
		}
		q.rx += uint64(got)
		w.stock.refill(q, w.batch)
	}
	return n
}

// receiveHanded takes what one other worker handed over, at most as much as the batch has room for.
func (w *Worker) receiveHanded(from int, ring *rings.Consumer[rings.Desc], n int) int {
	got := ring.Pop(w.descs[:w.handed-n])
	for _, d := range w.descs[:got] {
		port := uint8(d.Options & portBits)
		if d.Options&transmitBit != 0 {
			w.queueFor(port, rings.Desc{Addr: d.Addr, Len: d.Len}, int(d.Options>>bookedShift))
			continue
		}
		w.take(n, d, port, uint8(d.Options&hopBits>>hopShift))
		n++
	}
	return n
}

// take puts a received frame into the batch.
func (w *Worker) take(i int, d rings.Desc, port, hops uint8) {
	chunk := d.Addr &^ (platform.FrameSize - 1)
	start := int(d.Addr - chunk)
	w.addrs[i] = chunk
	f := &w.work.Frames[i]
	f.Mem = w.umem[chunk : chunk+platform.FrameSize : chunk+platform.FrameSize]
	f.Start, f.End = start, start+int(d.Len)
	f.Port, f.Hops = port, hops
}

func (w *Worker) process(n int) {
	if n > 0 {
		w.clock.end(receiving)
		if w.tapping == nil {
			w.proc.Process(w.work, n, w.tables.Load(), w.clock.ms)
		} else {
			w.processTapped(n)
		}
		w.clock.end(processing)
	}
}

// transmit gives every frame of the batch to its next owner and sends.
func (w *Worker) transmit(n int) {
	for i := range w.work.Frames[:n] {
		f := &w.work.Frames[i]
		d := rings.Desc{Addr: w.addrs[i] + uint64(f.Start), Len: uint32(f.End - f.Start)}
		switch f.Verdict {
		case pipeline.Forward:
			w.queueFor(f.Port, d, forwarded)
		case pipeline.Reply:
			w.queueFor(f.Port, d, replied)
		case pipeline.HandOver:
			d.Options = uint32(f.Port) | uint32(f.Hops)<<hopShift
			w.handOut[f.Worker].descs = append(w.handOut[f.Worker].descs, d)
		default:
			w.stock.give(d.Addr)
		}
	}
	w.flushHandOuts()
	w.flushPorts()
	w.reclaim()
	w.stock.exchange()
}

// What a frame that is about to be sent was booked as.
const (
	forwarded = iota
	replied
	originated
)

// booked is the counter behind it.
func (w *Worker) booked(as int) *uint64 {
	switch as {
	case replied:
		return &w.proc.Packets.Replied
	case originated:
		return &w.proc.Packets.Originated
	}
	return &w.proc.Packets.Forwarded
}

// queueFor puts a finished frame into line for its egress port.
func (w *Worker) queueFor(port uint8, d rings.Desc, as int) {
	e := &w.egress[port]
	switch {
	case e.queue != nil:
		e.descs[as] = append(e.descs[as], d)
	case e.relay >= 0:
		d.Options = uint32(port) | transmitBit | uint32(as)<<bookedShift
		w.handOut[e.relay].descs = append(w.handOut[e.relay].descs, d)
	default:
		w.lose(d, w.booked(as), counter.PortDown)
	}
}

// flushHandOuts publishes what other workers are to have, and wakes those who sleep.
func (w *Worker) flushHandOuts() {
	for i := range w.handOut {
		o := &w.handOut[i]
		if len(o.descs) == 0 {
			continue
		}
		took := o.ring.Push(o.descs)
		for _, d := range o.descs[took:] {
			booked := &w.proc.Packets.HandedOut
			if d.Options&transmitBit != 0 {
				booked = w.booked(int(d.Options >> bookedShift))
			}
			w.lose(d, booked, counter.HandOverFull)
		}
		o.descs = o.descs[:0]
		o.bell.ring()
	}
}

// flushPorts puts what is in line onto the TX rings and kicks the driver, once per port and turn.
func (w *Worker) flushPorts() {
	for i := range w.egress {
		e := &w.egress[i]
		if e.queue == nil {
			continue
		}
		for as, descs := range e.descs {
			took := e.queue.Transmit(descs)
			e.queue.tx += uint64(took)
			for _, d := range descs[took:] {
				e.queue.txFull++
				w.lose(d, w.booked(as), counter.TxFull)
			}
			e.descs[as] = descs[:0]
		}
		if err := e.queue.Kick(); err != nil {
			w.fault(e.queue, err)
		}
	}
}

// lose drops a frame that was booked otherwise already: the identity of the counters must hold.
func (w *Worker) lose(d rings.Desc, booked *uint64, r counter.Reason) {
	if *booked--; booked != &w.proc.Packets.Originated { // which was never received
		w.proc.Packets.Drops[r]++
	}
	if w.tapping != nil {
		w.tapLoss(d.Addr, r)
	}
	w.stock.give(d.Addr)
}

// reclaim takes back the frames that were sent.
func (w *Worker) reclaim() {
	for _, q := range w.queues {
		n := q.Reclaim(w.addrs)
		q.reclaimed += uint64(n)
		for _, addr := range w.addrs[:n] {
			w.stock.give(addr)
		}
	}
}

// tick does what time and other goroutines ask for, and sleeps when there is nothing to do.
func (w *Worker) tick(n int) {
	w.stats.turns++
	if w.tapping != nil {
		w.publishTaps()
	}
	if n > 0 {
		w.clock.end(transmitting)
		w.idle = 0
		w.stats.busyTurns++
		w.stats.frames += uint64(n)
	} else {
		w.idle++
	}
	select {
	case do := <-w.mailbox:
		do()
	default:
	}
	now := w.clock.ms
	if elapsed := now - w.tickedMs; elapsed > 0 || n == 0 && w.behind {
		w.tickedMs = now
		w.behind = w.proc.Housekeep(w.tables.Load(), now, elapsed, pipeline.HousekeepingBudget)
		if w.proc.RSTProbesDue() {
			slots := pokeSlots
			if n == 0 {
				slots = pokeIdleSlots
			}
			w.poke(slots)
		}
		w.proc.NeighbourRequests.Flush(w.want)
	}
	if n == 0 && !w.behind {
		w.rest()
	}
}

// faultPauseMs is the least time between two log lines about one queue.
const faultPauseMs = 5000

// fault logs that a driver would not send. Frames stay in the ring; the next turn tries again.
func (w *Worker) fault(q *ownQueue, err error) {
	if now := w.clock.ms; now-q.faultMs >= faultPauseMs || q.faultMs == 0 {
		q.faultMs = now | 1
		w.log.Warn("queue does not send", "event", "queue_failed", "port", q.name, "queue", q.number, "err", err)
	}
}

// These bound how many table slots one tick looks at for connections of evicted backends: some 20
// microseconds' worth while frames wait, a millisecond's worth when none do.
const (
	pokeSlots     = 8192
	pokeIdleSlots = 1 << 18
)
