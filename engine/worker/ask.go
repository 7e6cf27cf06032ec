package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sluice/pipeline/snat"
)

// The time that the control plane waits for a worker is counted in ticks, so that a pause of the
// whole process or machine counts as one of them and no worker is blamed for it.
const (
	tick       = 100 * time.Millisecond
	askTimeout = 10 // ticks that Ask waits for an answer
	stuckTime  = 20 // ticks after which a worker that does not answer is told
	// pingPause is the time between an answer of a worker and the next ping.
	pingPause = 250 * time.Millisecond
)

// ErrSilent is the error of Ask if the worker does not answer.
var ErrSilent = errors.New("worker does not answer")

// Ask is Do for callers that must not wait long: it returns ErrSilent if the worker has not called
// f after a second, or at once if it is known not to answer. After an error f is not called any
// more.
func (w *Worker) Ask(ctx context.Context, f func()) error {
	if w.silent.Load() {
		return ErrSilent
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go endAfter(ctx, cancel)
	var begun atomic.Bool // f is called, or never will be
	ran := make(chan struct{})
	err := w.Do(ctx, func() {
		if begun.CompareAndSwap(false, true) {
			f()
			close(ran)
		}
	})
	if err == nil || begun.CompareAndSwap(false, true) {
		return err
	}
	select { // f has begun, and does not take long
	case <-ran:
		return nil
	case <-w.done:
		return errStopped
	}
}

// endAfter ends a context with ErrSilent when askTimeout is over.
func endAfter(ctx context.Context, cancel context.CancelCauseFunc) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for range askTimeout {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
	cancel(ErrSilent)
}

// Ask has every worker call f between two batches, all at the same time, and returns the numbers of
// those that do not answer: see Worker.Ask. What f writes must be the worker's own. It is the only
// way in which a request waits for workers.
func (s *Set) Ask(ctx context.Context, f func(w *Worker)) (silent []int, err error) {
	errs := make([]error, len(s.All))
	var asking sync.WaitGroup
	for i, w := range s.All {
		asking.Go(func() { errs[i] = w.Ask(ctx, func() { f(w) }) })
	}
	asking.Wait()
	for i, e := range errs {
		switch {
		case errors.Is(e, ErrSilent):
			silent = append(silent, i)
		case e != nil:
			err = errors.Join(err, fmt.Errorf("worker %d: %w", i, e))
		}
	}
	return silent, err
}

// Stuck is a worker that has not answered for two seconds.
type Stuck struct {
	Worker, CPU int
	Since       time.Time // of the first unanswered ping
}

// Stuck returns the workers that are stuck now, in order.
func (s *Set) Stuck() (all []Stuck) {
	if s == nil {
		return nil
	}
	for i, w := range s.All {
		if since := w.stuckSince.Load(); since != nil {
			all = append(all, Stuck{i, w.cpu, *since})
		}
	}
	return all
}

// Watch pings every worker until ctx ends, and logs those that have not answered for two seconds,
// and those that answer again. A worker that has not answered for endAfter closes Failed.
func (s *Set) Watch(ctx context.Context, endAfter time.Duration, log *slog.Logger) {
	var watching sync.WaitGroup
	for _, w := range s.All {
		watching.Go(func() {
			for ctx.Err() == nil && w.ping(ctx, log, s.giveUp(w, endAfter)) {
				select {
				case <-time.After(pingPause):
				case <-ctx.Done():
				}
			}
		})
	}
	watching.Wait()
}

// giveUp returns a function that closes Failed if the worker has not answered for endAfter.
func (s *Set) giveUp(w *Worker, endAfter time.Duration) func(waited time.Duration) {
	return func(waited time.Duration) {
		if waited >= endAfter {
			s.failAs(&StuckError{Worker: w.id, CPU: w.cpu, For: endAfter})
		}
	}
}

// StuckError is why Failed is closed if a worker is stuck. It may still use all that it was given:
// only the end of the process frees that.
type StuckError struct {
	Worker, CPU int
	For         time.Duration // [engine] stuck_after
}

// Error names the worker.
func (e *StuckError) Error() string {
	return fmt.Sprintf("worker %d (CPU %d) has not run for %v ([engine] stuck_after)", e.Worker, e.CPU, e.For)
}

// ping waits until the worker answers, and gives it memory for SNAT ports if it lacks some. It
// returns false if the worker has ended, or ctx. waits is told how long it has waited, again and
// again.
func (w *Worker) ping(ctx context.Context, log *slog.Logger, waits func(time.Duration)) bool {
	began, answered := time.Now(), make(chan error, 1)
	var lacking [snat.Kinds]int
	go func() { answered <- w.Do(ctx, func() { lacking = w.ports.Lacks(w.tables.Load().SNATPools()) }) }()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for ticks := 1; ; ticks++ {
		select {
		case err := <-answered:
			w.silent.Store(false)
			if w.stuckSince.Swap(nil) != nil && err == nil {
				log.Info("worker goes on", "event", "worker_back", "worker", w.id, "cpu", w.cpu, "after", time.Since(began).Round(tick))
			}
			if err == nil {
				err = w.addPortMemory(ctx, lacking)
			}
			if errors.As(err, new(unix.Errno)) {
				log.Error("no memory for SNAT ports: new connections of fullnat may find none", "event", "port_memory", "worker", w.id, "err", err)
				err = nil // tried again at the next ping
			}
			return err == nil
		case <-ticker.C:
			w.silent.Store(ticks >= askTimeout)
			if ticks >= stuckTime && w.stuckSince.CompareAndSwap(nil, &began) {
				log.Error("worker is stuck: packets of its queues are lost", "event", "worker_stuck", "worker", w.id, "cpu", w.cpu,
					"since", began.Format(time.TimeOnly))
			}
			waits(time.Duration(ticks) * tick)
		}
	}
}

// named returns an error that names the workers with an error, or nil.
func (s *Set) named(errs []error) error {
	var names []string
	for i, err := range errs {
		if err != nil {
			names = append(names, fmt.Sprintf("%d (CPU %d)", i, s.All[i].cpu))
		}
	}
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("of %d workers these do not respond: %s: %w", len(s.All), strings.Join(names, ", "), errors.Join(errs...))
}
