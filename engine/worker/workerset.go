package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"sluice/engine/cpu"
	"sluice/engine/platform"
	"sluice/engine/tokernel"
	"sluice/pipeline"
	"sluice/pipeline/conn"
	"sluice/pipeline/counter"
	"sluice/pipeline/flow"
	"sluice/pipeline/packet"
	"sluice/pipeline/snat"
	"sluice/rings"
)

// MaxWorkers and MaxPorts are what fits into the byte that a frame names its worker and its port
// by.
const (
	MaxWorkers = 256
	MaxPorts   = 256
)

// waitingFragments is how many fragments may wait for the first one of their packet at each worker.
const waitingFragments = 4096

// Options is what a Set is made of.
type Options struct {
	Cores       []int // the CPU of each worker
	Batch       int   // frames per turn
	Connections int   // of all workers together
	// AdoptPerSecond is how many connections all workers together may adopt per second.
	AdoptPerSecond int
	BusyPoll       bool // spin instead of sleeping when idle
	Hardware       *platform.Hardware
	Memory         func(name string, bytes, core int) ([]byte, error) // for connection tables
	// Counters returns zeroed memory for counters, of which most is never used; nil: it is
	// allocated.
	Counters func(name string, bytes int) ([]byte, error)
	Seed     *flow.Seed
	Loads    *counter.Loads
	Turns    *counter.Turns
	Tables   *atomic.Pointer[pipeline.Tables] // must not hold nil when Launch is called
	Kernel   *tokernel.Path
	Resolve  func(packet.Addr) // a neighbour; must not block
	Log      *slog.Logger
	// Bypass is called with each batch in place of the pipeline, on the workers, by measurements of
	// everything else; nil: none.
	Bypass func([]pipeline.Frame)

	misplaced *pipeline.Misplaced // New sets it
}

// Set is all workers of an engine. A nil Set has no workers and can be closed.
type Set struct {
	All []*Worker // by id; not changed after New

	misplaced *pipeline.Misplaced

	running sync.WaitGroup
	failed  chan struct{} // closed when a worker has panicked, or is stuck for too long
	failure error         // set before failed is closed
	fail    sync.Once
}

// New makes the workers and connects them. Launch starts them.
func New(o Options) (*Set, error) {
	if len(o.Cores) > 1 {
		o.misplaced = pipeline.NewMisplaced()
	}
	workers, err := o.newWorkers()
	if err != nil {
		return nil, err
	}
	return &Set{All: workers, misplaced: o.misplaced, failed: make(chan struct{})}, nil
}

// TableName is the name of the memory of a worker's connection table of a family (4 or 6).
func TableName(worker, family int) string { return fmt.Sprintf("connections.%d.%d", worker, family) }

// Restore gives a worker a connection of a former process: see pipeline.Processor.Restore, and
// pipeline.Misplaced. It is called before Launch.
func (s *Set) Restore(worker int, misplaced bool, e *conn.Entry, nowMs uint32) bool {
	w := s.All[worker]
	ok := w.firstPortMemory() == nil && w.proc.Restore(w.tables.Load(), e, nowMs)
	if ok && misplaced && s.misplaced != nil {
		s.misplaced.Add(e, worker)
	}
	return ok
}

// Launch starts every worker on its own thread and returns when all are pinned to their CPUs.
func (s *Set) Launch() error {
	for _, w := range s.All {
		if err := w.firstPortMemory(); err != nil {
			return err
		}
	}
	pinned := make(chan error, len(s.All))
	for _, w := range s.All {
		s.running.Go(func() {
			defer close(w.done)
			// The thread is not unlocked, so that it ends with the worker: other goroutines must
			// not run with its CPU affinity.
			runtime.LockOSThread()
			if err := cpu.Pin(w.cpu); err != nil {
				pinned <- err
				return
			}
			pinned <- nil
			defer s.recoverPanic(w)
			w.run()
		})
	}
	var errs []error
	for range s.All {
		errs = append(errs, <-pinned)
	}
	return errors.Join(errs...)
}

// recoverPanic closes failed if the worker w has panicked. The engine then ends the process,
// because part of a balancer does more harm than none.
func (s *Set) recoverPanic(w *Worker) {
	if r := recover(); r != nil {
		buf := make([]byte, 16<<10)
		buf = buf[:runtime.Stack(buf, false)]
		s.failAs(fmt.Errorf("worker %d: internal error: %v\n%s", w.id, r, buf))
	}
}

// failAs closes failed, if nothing has before.
func (s *Set) failAs(err error) {
	s.fail.Do(func() {
		s.failure = err
		close(s.failed)
	})
}

// Failed returns a channel that is closed when a worker has panicked, or is stuck for too long.
// Close returns the reason.
func (s *Set) Failed() <-chan struct{} { return s.failed }

// Failure returns why Failed is closed, nil if it is not.
func (s *Set) Failure() error {
	select {
	case <-s.failed:
		return s.failure
	default:
		return nil
	}
}

// OnAll has every worker call f between two batches, one worker after the other. It waits for each
// until ctx ends: requests use Ask.
func (s *Set) OnAll(ctx context.Context, f func(w *Worker)) error {
	for _, w := range s.All {
		if err := w.Do(ctx, func() { f(w) }); err != nil {
			return fmt.Errorf("worker %d: %w", w.id, err)
		}
	}
	return nil
}

// closeTimeout is how long Close waits for the workers.
const closeTimeout = 5 * time.Second

// Close stops the workers, waits until they have ended and frees the file descriptors that they
// polled. Its error includes the one behind Failed. It is a Hung if a worker does not end: that
// worker may still use everything that it was given.
func (s *Set) Close() (err error) {
	if s == nil {
		return nil
	}
	for _, w := range s.All {
		w.stop.Store(true)
		w.waker.wake()
	}
	if err := s.awaitEnd(); err != nil {
		return err
	}
	for _, w := range s.All {
		err = errors.Join(err, w.close(), w.portMemory.close())
	}
	return errors.Join(s.Failure(), err)
}

// Hung is the error of Close if workers do not end.
type Hung struct{ error }

// awaitEnd waits until the workers have ended, at most for closeTimeout.
func (s *Set) awaitEnd() error {
	ended := make(chan struct{})
	go func() { s.running.Wait(); close(ended) }()
	select {
	case <-ended:
		return nil
	case <-time.After(closeTimeout):
	}
	errs := make([]error, len(s.All))
	for i, w := range s.All {
		select {
		case <-w.done:
		default:
			errs[i] = errors.New("does not end")
		}
	}
	return Hung{s.named(errs)}
}

func (o *Options) newWorkers() ([]*Worker, error) {
	n := len(o.Cores)
	queues := o.queues()
	parts := divide(len(o.Hardware.UMEM)/platform.FrameSize, queues)
	workers, connections := make([]*Worker, n), counter.NewCapacity(n, o.Connections)
	for i := range workers {
		w, err := o.newWorker(i, queues[i], parts, connections)
		if err != nil {
			for _, made := range workers[:i] {
				err = errors.Join(err, made.close())
			}
			return nil, err
		}
		workers[i] = w
	}
	wire(workers)
	for port, hw := range o.Hardware.Ports {
		for i, q := range hw.Queues {
			w := workers[cpu.WorkerOf(i, n)]
			counted := &w.counted.Queues[len(w.queues)]
			counted.Port, counted.Number = uint64(port), uint64(q.Number)
			counted.begin(q.RxIndex, q.TxIndex)
			w.queues = append(w.queues, &queue{
				counted: counted,
				Queue:   q.Queue, name: hw.Name, port: uint8(port), index: i, number: q.Number,
				reclaimed: -uint64(q.Sending), heartbeat: q.Heartbeat,
			})
		}
	}
	for _, w := range workers {
		w.connectPorts(o.Hardware.Ports, n)
	}
	return workers, nil
}

// queues returns how many queues each worker has.
func (o *Options) queues() []int {
	count := make([]int, len(o.Cores))
	for _, hw := range o.Hardware.Ports {
		for i := range hw.Queues {
			count[cpu.WorkerOf(i, len(count))]++
		}
	}
	return count
}

func (o *Options) newWorker(id, queues int, parts parts, connections *counter.Capacity) (*Worker, error) {
	n := len(o.Cores)
	var tables [2][]byte
	for i, family := range []int{4, 6} {
		mem, err := o.Memory(TableName(id, family), pipeline.TableBytes(family, n, o.Connections), o.Cores[id])
		if err != nil {
			return nil, fmt.Errorf("IPv%d connection table of worker %d: %w: lower [engine] connections", family, id, err)
		}
		tables[i] = mem
	}
	counted, err := o.counted(id, queues)
	if err != nil {
		return nil, err
	}
	sleeper, err := cpu.NewSleeper()
	if err != nil {
		return nil, err
	}
	w := &Worker{
		id: id, cpu: o.Cores[id], batch: o.Batch, log: o.Log.With("worker", id),
		umem:      o.Hardware.UMEM,
		frames:    newFrames(id, parts, o.Hardware.Held),
		egress:    make([]egress, len(o.Hardware.Ports)),
		handOut:   make([]outbox, n),
		kernel:    o.Kernel.Outlet(id),
		handIn:    make([]*rings.Consumer[rings.Desc], n),
		tables:    o.Tables,
		work:      new(pipeline.Batch),
		addrs:     make([]uint64, pipeline.MaxBatch),
		descs:     make([]rings.Desc, pipeline.MaxBatch),
		sleeper:   sleeper,
		mailbox:   make(chan func(), 1),
		done:      make(chan struct{}),
		resolve:   o.Resolve,
		sleeps:    !o.BusyPoll,
		maxHanded: max(1, o.Batch/2),
		ports:     snat.NewMemory(false),
		bypass:    o.Bypass,
		counted:   counted,
	}
	w.clock.counted = counted.Totals
	w.proc = pipeline.New(pipeline.Options{
		Worker: id, Workers: n, Capacity: connections, Seed: o.Seed, Loads: o.Loads, Turns: o.Turns, AdoptPerSecond: o.AdoptPerSecond,
		Mem4: tables[0], Mem6: tables[1], Ports: w.ports, Fragments: waitingFragments, Misplaced: o.misplaced,
		Counted: counted.forPipeline(),
	})
	w.waker.write = sleeper.Wake
	// A whole batch, and what every other worker may hand over in the same turn.
	capacity := o.Batch * (n + 1)
	for i := range w.egress {
		for as := range w.egress[i].descs {
			w.egress[i].descs[as] = make([]rings.Desc, 0, capacity)
		}
	}
	for i := range w.handOut {
		w.handOut[i].descs = make([]rings.Desc, 0, capacity)
	}
	return w, nil
}
