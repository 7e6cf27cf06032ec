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

// Stuck is a worker that has not answered for as long as makes it count as stuck.
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

// Watch pings every worker until ctx ends, and logs those that have not answered for stuckAfter,
// and those that answer again.
func (s *Set) Watch(ctx context.Context, stuckAfter time.Duration, log *slog.Logger) {
	var watching sync.WaitGroup
	for _, w := range s.All {
		watching.Go(func() {
			for ctx.Err() == nil && w.ping(ctx, stuckAfter, log) {
				select {
				case <-time.After(pingPause):
				case <-ctx.Done():
				}
			}
		})
	}
	watching.Wait()
}

// ping waits until the worker answers, and gives it memory for SNAT ports if it lacks some. It
// returns false if the worker has ended, or ctx.
func (w *Worker) ping(ctx context.Context, stuckAfter time.Duration, log *slog.Logger) bool {
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
			if time.Duration(ticks)*tick >= stuckAfter && w.stuckSince.CompareAndSwap(nil, &began) {
				log.Error("worker is stuck: packets of its queues are lost", "event", "worker_stuck", "worker", w.id, "cpu", w.cpu,
					"since", began.Format(time.TimeOnly))
			}
		}
	}
}

// Alive returns nil if the loop of every worker is running. It has each worker call an empty
// function between two batches and waits until all have or ctx ends. The error names the workers
// that have not.
func (s *Set) Alive(ctx context.Context) error {
	stuck := make([]error, len(s.All))
	var asking sync.WaitGroup
	for i, w := range s.All {
		asking.Go(func() { stuck[i] = w.Do(ctx, func() {}) })
	}
	asking.Wait()
	return s.named(stuck)
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
