// Package worker moves frames: it is the loop of receive, process, transmit on each of the engine's
// CPUs.
//
// A Set has one Worker per CPU. Each runs its loop in one goroutine that is locked to a thread and
// pinned to the CPU (workerset.go, worker.go). A Worker owns its queues, its frames (frames.go),
// its connection tables and its counters; only its goroutine touches them. Others reach it in four
// ways: the rings on which workers hand frames to each other (handover.go) and return them, the
// pointer to the tables, which the engine stores and a worker loads once per batch, the rings of a
// Tap (tap.go), and Do, which has the worker call a function between two batches (sleep.go).
// Requests use Ask, which is Do with a bound, and Watch tells which workers do not answer (ask.go).
//
// Nothing on the way of a packet takes a lock, allocates or makes a system call for one packet.
//
// The package imports platform, cpu, filter, tokernel, rings and the pipeline. It does not know the
// engine, the configuration or who builds the tables.
package worker

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"sluice/engine/cpu"
	"sluice/engine/platform"
	"sluice/engine/tokernel"
	"sluice/pipeline"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/snat"
	"sluice/rings"
)

// Worker is one OS thread on one CPU. It receives frames from its own queues, runs them through the
// pipeline and transmits them. All fields belong to its goroutine unless their comment names
// others.
type Worker struct {
	id, cpu int
	batch   int
	log     *slog.Logger

	umem    []byte
	frames  *frames
	queues  []*queue // receive and transmit
	egress  []egress // by port
	handOut []outbox // by worker
	kernel  *tokernel.Outlet
	handIn  []*rings.Consumer[rings.Desc]
	next    int // queue that the next turn begins with, so that none starves

	handNext  int // hand-over ring that the next turn begins with, so that none starves
	maxHanded int // frames per turn that may come from hand-over rings

	proc   *pipeline.Processor
	bypass func([]pipeline.Frame)           // nil, except in measurements
	ports  *snat.Memory                     // of proc
	tables *atomic.Pointer[pipeline.Tables] // the engine stores, workers load
	work   *pipeline.Batch
	addrs  []uint64     // chunk address of each frame in work
	descs  []rings.Desc // scratch

	waker    waker
	sleeper  *cpu.Sleeper
	wakeMu   sync.RWMutex // read-locked by Do while it wakes the worker, locked by close
	mailbox  chan func()  // functions that other goroutines want called between two batches
	tapState *tapState    // nil: no Tap
	stop     atomic.Bool  // any goroutine sets it
	done     chan struct{}

	// silent: it has not answered for so long that Ask does not wait. ping sets both.
	silent     atomic.Bool
	stuckSince atomic.Pointer[time.Time] // nil: not stuck

	portMemory portMemory // any goroutine may call its methods

	resolve func(packet.Addr) // asks for a neighbour to be resolved; must not block
	sleeps  bool              // sleep when idle; false: spin

	clock       clock
	counted     Counted
	before      Totals // of counted, when the loop began
	startNs     int64
	idle        int // turns in a row that found nothing
	housekeptMs uint32
	sweepBehind bool // housekeeping ended before its sweep was where time asks for
}

// queue is one of this worker's queues.
type queue struct {
	platform.Queue
	name   string // of the port
	port   uint8
	index  int // among the queues of the port that Sluice uses
	number int // at the interface

	heartbeat *atomic.Int64 // see platform.HardwareQueue; nil: nothing needs it

	counted   *QueueTotals
	reclaimed uint64
	faultMs   uint32 // time of the last error that was logged; 0: none
}

// egress is how this worker reaches a port: by its own queue there, or by another worker's.
type egress struct {
	queue *queue
	relay int             // worker that transmits if queue is nil; -1: no worker has a queue there
	descs [3][]rings.Desc // to transmit this turn: forwarded, replied, originated
}

// run is the worker's loop. It returns after stop was set. The goroutine is locked to its thread.
func (w *Worker) run() {
	w.startNs, w.before = nowNs(), *w.counted.Totals
	for !w.stop.Load() {
		w.clock.turn()
		n := w.receive()
		w.process(n)
		w.transmit(n)
		w.housekeep(n)
	}
}

// receive fills the batch and returns its size. At most half of it are frames that other workers
// handed over. These go first because they have waited longest, and are bounded because handing
// over costs less than processing: without the bound they would starve the worker's own queues. The
// rest comes from the queues. Each turn begins with another one, which may fill the batch alone.
func (w *Worker) receive() (n int) {
	if w.handNext++; w.handNext == len(w.handIn) {
		w.handNext = 0
	}
	if w.proc.FragmentsReady() {
		n = w.receiveFragments()
	}
	for i := range w.handIn {
		from := (w.handNext + i) % len(w.handIn)
		if ring := w.handIn[from]; ring != nil && n < w.maxHanded {
			n = w.receiveHanded(from, ring, n)
		}
	}
	if w.next++; w.next >= len(w.queues) {
		w.next = 0
	}
	at := w.next
	for range w.queues {
		q := w.queues[at]
		if at++; at == len(w.queues) {
			at = 0
		}
		got := q.Receive(w.descs[:w.batch-n])
		for _, d := range w.descs[:got] {
			w.addFrame(n, d, q.port, 0, false)
			n++
		}
		q.counted.Rx += uint64(got)
		w.frames.refill(q, w.batch)
	}
	return n
}

// receiveHanded pops frames that one other worker handed over, up to maxHanded in the batch. It
// returns the new size of the batch.
func (w *Worker) receiveHanded(from int, ring *rings.Consumer[rings.Desc], n int) int {
	got := ring.Pop(w.descs[:w.maxHanded-n])
	for _, d := range w.descs[:got] {
		port := uint8(d.Options & portBits)
		if d.Options&transmitBit != 0 {
			w.enqueue(port, rings.Desc{Addr: d.Addr, Len: d.Len}, int(d.Options>>countedShift))
			continue
		}
		w.addFrame(n, d, port, uint8(d.Options&hopBits>>hopShift), d.Options&notedBit != 0)
		n++
	}
	return n
}

// frameStart is where frames of fragments begin that have waited, in bytes from the start of their
// chunks: as much space is in front of received frames.
const frameStart = 256

// receiveFragments fills the batch with fragments that have waited and can go on now, in free
// frames, and returns their number.
func (w *Worker) receiveFragments() int {
	free := w.frames.free
	count := min((w.maxHanded+1)/2, len(free))
	for i := range count {
		w.addFrame(i, rings.Desc{Addr: free[len(free)-1-i]}, 0, 0, false)
	}
	n := w.proc.ReleaseFragments(w.work.Frames[:count], frameStart)
	w.frames.free = free[:len(free)-n]
	return n
}

// addFrame makes a received frame number i of the batch. noted: see pipeline.Frame.
func (w *Worker) addFrame(i int, d rings.Desc, port, hops uint8, noted bool) {
	chunk := d.Addr &^ (platform.FrameSize - 1)
	start := int(d.Addr - chunk)
	w.addrs[i] = chunk
	f := &w.work.Frames[i]
	f.Mem = w.umem[chunk : chunk+platform.FrameSize : chunk+platform.FrameSize]
	f.Start, f.End = start, start+int(d.Len)
	f.Port, f.Hops, f.Noted = port, hops, noted
}

func (w *Worker) process(n int) {
	if n > 0 {
		w.clock.account(receiving)
		switch {
		case w.bypass != nil:
			w.bypass(w.work.Frames[:n])
		case w.tapState == nil:
			w.proc.Process(w.work, n, w.tables.Load(), w.clock.ms)
		default:
			w.processTapped(n)
		}
		w.clock.account(processing)
	}
}

// transmit passes every frame of the batch on: to a port, to another worker or to the free frames.
func (w *Worker) transmit(n int) {
	for i := range w.work.Frames[:n] {
		f := &w.work.Frames[i]
		d := rings.Desc{Addr: w.addrs[i] + uint64(f.Start), Len: uint32(f.End - f.Start)}
		switch f.Verdict {
		case pipeline.Forward:
			w.enqueue(f.Port, d, forwarded)
		case pipeline.Reply:
			w.enqueue(f.Port, d, replied)
		case pipeline.HandOver:
			if d.Options = uint32(f.Port) | uint32(f.Hops)<<hopShift; f.Noted {
				d.Options |= notedBit
			}
			w.handOut[f.Worker].descs = append(w.handOut[f.Worker].descs, d)
		case pipeline.ToKernel:
			w.toKernel(f, d)
		default:
			w.frames.put(d.Addr)
		}
	}
	w.flushHandOuts()
	w.flushPorts()
	w.reclaim()
	w.frames.exchange()
}

// toKernel gives the kernel a copy of a packet.
func (w *Worker) toKernel(f *pipeline.Frame, d rings.Desc) {
	if reason := w.kernel.Put(f.Mem[f.Start:f.End], w.clock.ms, f.Reason); reason != counter.None {
		w.drop(d, &w.proc.Packets.ToKernel, reason)
		return
	}
	w.frames.put(d.Addr)
}

// The counter that a frame which is about to be transmitted was added to.
const (
	forwarded = iota
	replied
	originated
)

// counterOf returns that counter.
func (w *Worker) counterOf(as int) *uint64 {
	switch as {
	case replied:
		return &w.proc.Packets.Replied
	case originated:
		return &w.proc.Packets.Originated
	}
	return &w.proc.Packets.Forwarded
}

// enqueue appends a finished frame to those that this turn transmits at the port.
func (w *Worker) enqueue(port uint8, d rings.Desc, as int) {
	e := &w.egress[port]
	switch {
	case e.queue != nil:
		e.descs[as] = append(e.descs[as], d)
	case e.relay >= 0:
		d.Options = uint32(port) | transmitBit | uint32(as)<<countedShift
		w.handOut[e.relay].descs = append(w.handOut[e.relay].descs, d)
	default:
		w.drop(d, w.counterOf(as), counter.PortDown)
	}
}

// flushHandOuts pushes the frames for other workers onto their rings and wakes those that sleep.
func (w *Worker) flushHandOuts() {
	for i := range w.handOut {
		o := &w.handOut[i]
		if len(o.descs) == 0 {
			continue
		}
		took := o.ring.Push(o.descs)
		for _, d := range o.descs[took:] {
			counted := &w.proc.Packets.HandedOut
			if d.Options&transmitBit != 0 {
				counted = w.counterOf(int(d.Options >> countedShift))
			}
			w.drop(d, counted, counter.HandOverFull)
		}
		o.descs = o.descs[:0]
		o.waker.wake()
	}
}

// flushPorts puts the frames to transmit onto the TX rings and kicks the driver, once per port and
// turn.
func (w *Worker) flushPorts() {
	for i := range w.egress {
		e := &w.egress[i]
		if e.queue == nil {
			continue
		}
		for as, descs := range e.descs {
			took := e.queue.Transmit(descs)
			e.queue.counted.Tx += uint64(took)
			for _, d := range descs[took:] {
				e.queue.counted.TxFull++
				w.drop(d, w.counterOf(as), counter.TxFull)
			}
			e.descs[as] = descs[:0]
		}
		if err := e.queue.Kick(); err != nil {
			w.fault(e.queue, err)
		}
	}
}

// drop drops a frame that has been added to a counter already. The counter gives the frame back, so
// that the sum of all counters still equals what was received.
func (w *Worker) drop(d rings.Desc, counted *uint64, r counter.Reason) {
	if *counted--; counted != &w.proc.Packets.Originated { // these were never received
		w.proc.Packets.Drops[r]++
	}
	if w.tapState != nil {
		w.recordDrop(d.Addr, r)
	}
	w.frames.put(d.Addr)
}

// reclaim returns transmitted frames to the free frames.
func (w *Worker) reclaim() {
	for _, q := range w.queues {
		n := q.Reclaim(w.addrs)
		q.reclaimed += uint64(n)
		for _, addr := range w.addrs[:n] {
			w.frames.put(addr)
		}
	}
}

// housekeep does what is due because time has passed or another goroutine asks for it, and sleeps
// when there is nothing to do. n is the size of the turn's batch.
func (w *Worker) housekeep(n int) {
	c := w.counted.Totals
	c.Turns++
	if w.tapState != nil {
		w.publishTaps()
	}
	if n > 0 {
		w.clock.account(transmitting)
		w.idle = 0
		c.BusyTurns++
		c.Frames += uint64(n)
	} else {
		w.idle++
	}
	select {
	case do := <-w.mailbox:
		do()
	default:
	}
	if w.proc.SYNsDue() {
		w.sendRSTProbes(0)
	}
	now := w.clock.ms
	if elapsed := now - w.housekeptMs; elapsed > 0 || n == 0 && w.sweepBehind {
		w.housekeptMs = now
		c.RunNs = w.ran()
		w.beat()
		w.sweepBehind = w.proc.Housekeep(w.tables.Load(), now, elapsed, pipeline.HousekeepingBudget)
		if w.proc.RSTProbesDue() {
			slots := rstProbeSlots
			if n == 0 {
				slots = rstProbeIdleSlots
			}
			w.sendRSTProbes(slots)
		}
		w.proc.NeighbourRequests.Flush(w.resolve)
	}
	if n == 0 && !w.sweepBehind {
		w.sleep()
	}
}

// faultPauseMs is the least time between two log lines about one queue.
const faultPauseMs = 5000

// fault logs that a driver did not transmit. The frames stay in the ring; the next turn tries
// again.
func (w *Worker) fault(q *queue, err error) {
	if now := w.clock.ms; now-q.faultMs >= faultPauseMs || q.faultMs == 0 {
		q.faultMs = now | 1
		w.log.Warn("queue does not send", "event", "queue_failed", "port", q.name, "queue", q.number, "err", err)
	}
}

// Bounds on the table slots that one turn examines for connections of evicted backends: about 20
// microseconds while frames wait, about a millisecond when none do.
const (
	rstProbeSlots     = 8192
	rstProbeIdleSlots = 1 << 18
)
