package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"sluice/engine/api"
	"sluice/engine/worker"
	"sluice/pipeline/counter"
)

// No request waits for a worker: a worker may hang in a driver. Requests ask with worker.Set.Ask,
// which waits for a second at most, and not at all for a worker that is known not to answer. In
// place of an answer they have the worker's last one, so that no counter goes back, and the error
// of the request is an api.Unresponsive.

// answers is what each worker answered last. The zero value has none.
type answers struct {
	mu      sync.Mutex
	traffic map[int][]counter.Backend // by worker, then by number of the backend
	reports map[int]workerReport      // by worker
}

// forget forgets what was counted under these numbers, which the workers no longer have.
func (a *answers) forget(numbers []uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, traffic := range a.traffic {
		for _, number := range numbers {
			if int(number) < len(traffic) {
				traffic[number] = counter.Backend{}
			}
		}
	}
}

// workerReport is what Stats asks a worker for.
type workerReport struct {
	counters worker.Counters // without Gaps
	stats    api.WorkerStats
}

// unresponsive returns the error of a request that these workers have not answered; nil: none.
func unresponsive(workers []int, applied bool) error {
	if len(workers) == 0 {
		return nil
	}
	slices.Sort(workers)
	return &api.Unresponsive{Workers: slices.Compact(workers), Applied: applied}
}

// takenUp waits until the workers have what was published last. It returns an Unresponsive that
// names those that have not. A client that has gone does not make a change undone.
func (e *Engine) takenUp(ctx context.Context) error {
	silent, err := e.workers.Ask(context.WithoutCancel(ctx), func(*worker.Worker) {})
	if err != nil {
		return nil // the daemon is stopping
	}
	return unresponsive(silent, true)
}

// begin locks changeMu for a request, unless its client has gone meanwhile. The caller unlocks it.
func (e *Engine) begin(ctx context.Context) error {
	e.changeMu.Lock()
	if err := wanted(ctx); err != nil {
		e.changeMu.Unlock()
		return err
	}
	return nil
}

// wanted returns an error if the client of a change has gone: it would not know of it.
func wanted(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return stateError{fmt.Errorf("nothing was changed: the request has ended: %w", err)}
	}
	return nil
}

// traffic returns what all workers counted for the first n backend numbers, and an Unresponsive.
// The workers are asked for a part at a time, so that packets do not wait.
func (e *Engine) traffic(ctx context.Context, n int) ([]counter.Backend, error) {
	parts := make([][]counter.Backend, len(e.workers.All))
	for i := range parts {
		parts[i] = make([]counter.Backend, n)
	}
	var silent []int
	for from := 0; from < n; from += idsPerVisit {
		to := min(from+idsPerVisit, n)
		missing, err := e.workers.Ask(ctx, func(w *worker.Worker) { w.AddTraffic(parts[w.ID()][from:to], from) })
		if err != nil {
			return nil, err
		}
		silent = append(silent, missing...)
	}
	sum := make([]counter.Backend, n)
	e.answers.mu.Lock()
	defer e.answers.mu.Unlock()
	if e.answers.traffic == nil {
		e.answers.traffic = make(map[int][]counter.Backend)
	}
	for i, part := range parts {
		if slices.Contains(silent, i) {
			part = e.answers.traffic[i]
		} else {
			e.answers.traffic[i] = part
		}
		for id := range part[:min(n, len(part))] {
			sum[id].Add(&part[id])
		}
	}
	return sum, unresponsive(silent, false)
}

// trafficOfNumbers returns what all workers counted for these backend numbers together, and an
// Unresponsive.
func (e *Engine) trafficOfNumbers(ctx context.Context, numbers []uint32) (sum counter.Backend, err error) {
	parts := make([]counter.Backend, len(e.workers.All))
	silent, err := e.workers.Ask(ctx, func(w *worker.Worker) {
		for _, number := range numbers {
			w.AddTraffic(parts[w.ID():w.ID()+1], int(number))
		}
	})
	if err != nil {
		return sum, err
	}
	e.answers.mu.Lock()
	defer e.answers.mu.Unlock()
	for i := range parts {
		if !slices.Contains(silent, i) {
			sum.Add(&parts[i])
			continue
		}
		for _, number := range numbers {
			if last := e.answers.traffic[i]; int(number) < len(last) {
				sum.Add(&last[number])
			}
		}
	}
	return sum, unresponsive(silent, false)
}

// reports returns every worker's report, and an Unresponsive.
func (e *Engine) reports(ctx context.Context) ([]workerReport, error) {
	fresh := make([]workerReport, len(e.workers.All))
	silent, err := e.workers.Ask(ctx, func(w *worker.Worker) {
		c := w.Counters(e.platform)
		fresh[w.ID()] = workerReport{c, report(w, &c)}
		fresh[w.ID()].counters.Gaps = nil // the worker's
	})
	if err != nil {
		return nil, err
	}
	all := make([]workerReport, len(fresh))
	e.answers.mu.Lock()
	defer e.answers.mu.Unlock()
	if e.answers.reports == nil {
		e.answers.reports = make(map[int]workerReport)
	}
	for i, w := range e.workers.All {
		if !slices.Contains(silent, i) {
			e.answers.reports[i] = fresh[i]
		}
		all[i] = e.answers.reports[i]
		all[i].stats.Worker, all[i].stats.CPU = w.ID(), w.CPU()
	}
	for _, stuck := range e.workers.Stuck() {
		all[stuck.Worker].stats.StuckS = time.Since(stuck.Since).Seconds()
	}
	return all, unresponsive(silent, false)
}

// eachConn calls f for the live connections of one family, or of both (0), worker by worker, until
// it returns false. silent are the workers that do not answer.
func (e *Engine) eachConn(ctx context.Context, family int, f func(worker int, c worker.Conn) bool) (silent []int, err error) {
	for _, w := range e.workers.All {
		more, err := eachConnOf(ctx, w, family, f)
		switch {
		case errors.Is(err, worker.ErrSilent):
			silent = append(silent, w.ID())
		case err != nil:
			return silent, fmt.Errorf("worker %d: %w", w.ID(), err)
		case !more:
			return silent, nil
		}
	}
	return silent, nil
}

// eachConnOf is eachConn for one worker. more is what f returned last.
func eachConnOf(ctx context.Context, w *worker.Worker, family int, f func(worker int, c worker.Conn) bool) (more bool, err error) {
	for _, of := range []int{4, 6} {
		if family != 0 && family != of {
			continue
		}
		for cursor := uint32(0); ; {
			var part []worker.Conn
			if err := w.Ask(ctx, func() { part, cursor = w.Conns(of, cursor) }); err != nil {
				return true, err
			}
			for _, c := range part {
				if !f(w.ID(), c) {
					return false, nil
				}
			}
			if cursor == 0 {
				break
			}
		}
	}
	return true, nil
}

// stuckAlarms returns an alarm for each worker that is stuck.
func (e *Engine) stuckAlarms() (all []api.Alarm) {
	for _, s := range e.workers.Stuck() {
		all = append(all, api.Alarm{
			Kind: api.AlarmStuck, SinceS: time.Since(s.Since).Seconds(),
			Text: fmt.Sprintf("worker %d (CPU %d) has not answered since %s: packets of its queues wait and are lost, and it works by old tables; "+
				"the log of the kernel may say why; a restart ends it", s.Worker, s.CPU, s.Since.Format(time.TimeOnly)),
		})
	}
	return all
}

// family returns the family of an address.
func family(a netip.Addr) int {
	if a.Is4() {
		return 4
	}
	return 6
}
