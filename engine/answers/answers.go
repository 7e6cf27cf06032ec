// Package answers asks the workers for what requests show: traffic, reports and connections.
//
// No request waits for a worker: a worker may hang in a driver. Requests ask with worker.Set.Ask,
// which waits for a second at most, and not at all for a worker that is known not to answer. In
// place of an answer they have the worker's last one, so that no counter goes back, and the error
// of the request is an api.Unresponsive.
package answers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"sluice/engine/api"
	"sluice/engine/platform"
	"sluice/engine/worker"
	"sluice/pipeline/counter"
)

// Answers has what each worker answered last. Any goroutine may call its methods.
type Answers struct {
	workers  *worker.Set
	platform platform.Platform

	mu      sync.Mutex
	traffic map[int][]counter.Backend // by worker, then by number of the backend
	reports map[int]Report            // by worker
	refused map[int][]counter.Service // by worker, then by number of the service
}

// New returns the Answers of workers that have not been asked. on is the platform of their queues.
func New(workers *worker.Set, on platform.Platform) *Answers {
	return &Answers{workers: workers, platform: on, traffic: make(map[int][]counter.Backend), reports: make(map[int]Report), refused: make(map[int][]counter.Service)}
}

// Forget forgets what was counted under these numbers, which the workers no longer have.
func (a *Answers) Forget(numbers []uint32) {
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

// Report is what a worker reports of itself.
type Report struct {
	Counters worker.Counters // without Gaps
	Stats    api.WorkerStats
}

// Unresponsive returns the error of a request that these workers have not answered; nil: none.
func Unresponsive(workers []int, applied bool) error {
	if len(workers) == 0 {
		return nil
	}
	slices.Sort(workers)
	return &api.Unresponsive{Workers: slices.Compact(workers), Applied: applied}
}

// IDsPerVisit limits the backends that a worker is asked about in one visit, which takes about ten
// microseconds.
const IDsPerVisit = 2048

// Traffic returns what all workers counted for the first n backend numbers, and an Unresponsive.
func (a *Answers) Traffic(ctx context.Context, n int) ([]counter.Backend, error) {
	sums := make([]counter.Backend, n)
	err := sum(ctx, a, sums, a.traffic, (*worker.Worker).AddTraffic, (*counter.Backend).Add)
	if api.Answered(err) != nil {
		return nil, err
	}
	return sums, err
}

// Refusals adds what all workers counted for services to sums, which is by number and says which
// services are meant. It returns an Unresponsive.
func (a *Answers) Refusals(ctx context.Context, sums []counter.Service) error {
	return sum(ctx, a, sums, a.refused, (*worker.Worker).AddRefusals, (*counter.Service).Add)
}

// TakeFull returns the source prefixes of new connections that found no free entry since the last
// call, and those of first packets that needed none. A worker that does not answer adds none.
func (a *Answers) TakeFull(ctx context.Context) (full, first []counter.PrefixCount, err error) {
	parts := make([]struct{ full, first counter.Prefixes }, len(a.workers.All))
	_, err = a.workers.Ask(ctx, func(w *worker.Worker) { w.TakeFull(&parts[w.ID()].full, &parts[w.ID()].first) })
	for i := range parts {
		full, first = append(full, parts[i].full.All()...), append(first, parts[i].first.All()...)
	}
	return full, first, err
}

// sum adds to sums, which are by number, what each worker adds to a copy of it, or has added last.
// The workers are asked for a part at a time, so that packets do not wait. last is by worker and
// guarded by mu. It returns an Unresponsive.
func sum[T any](ctx context.Context, a *Answers, sums []T, last map[int][]T, ask func(w *worker.Worker, part []T, first int), add func(to, part *T)) error {
	parts := make([][]T, len(a.workers.All))
	for i := range parts {
		parts[i] = slices.Clone(sums)
	}
	var silent []int
	for from := 0; from < len(sums); from += IDsPerVisit {
		to := min(from+IDsPerVisit, len(sums))
		missing, err := a.workers.Ask(ctx, func(w *worker.Worker) { ask(w, parts[w.ID()][from:to], from) })
		if err != nil {
			return err
		}
		silent = append(silent, missing...)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, part := range parts {
		if slices.Contains(silent, i) {
			part = last[i]
		} else {
			last[i] = part
		}
		for id := range part[:min(len(sums), len(part))] {
			add(&sums[id], &part[id])
		}
	}
	return Unresponsive(silent, false)
}

// TrafficOf returns what all workers counted for these backend numbers together, and an
// Unresponsive.
func (a *Answers) TrafficOf(ctx context.Context, numbers []uint32) (sum counter.Backend, err error) {
	parts := make([]counter.Backend, len(a.workers.All))
	silent, err := a.workers.Ask(ctx, func(w *worker.Worker) {
		for _, number := range numbers {
			w.AddTraffic(parts[w.ID():w.ID()+1], int(number))
		}
	})
	if err != nil {
		return sum, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range parts {
		if !slices.Contains(silent, i) {
			sum.Add(&parts[i])
			continue
		}
		for _, number := range numbers {
			if last := a.traffic[i]; int(number) < len(last) {
				sum.Add(&last[number])
			}
		}
	}
	return sum, Unresponsive(silent, false)
}

// Reports returns every worker's report, and an Unresponsive.
func (a *Answers) Reports(ctx context.Context) ([]Report, error) {
	fresh := make([]Report, len(a.workers.All))
	silent, err := a.workers.Ask(ctx, func(w *worker.Worker) {
		c := w.Counters(a.platform)
		fresh[w.ID()] = Report{c, report(w, &c)}
		fresh[w.ID()].Counters.Gaps = nil // the worker's
	})
	if err != nil {
		return nil, err
	}
	all := make([]Report, len(fresh))
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, w := range a.workers.All {
		if !slices.Contains(silent, i) {
			a.reports[i] = fresh[i]
		}
		all[i] = a.reports[i]
		all[i].Stats.Worker, all[i].Stats.CPU = w.ID(), w.CPU()
	}
	for _, stuck := range a.workers.Stuck() {
		all[stuck.Worker].Stats.StuckS = time.Since(stuck.Since).Seconds()
	}
	return all, Unresponsive(silent, false)
}

// EachConn calls f for the live connections of one family, or of both (0), worker by worker, until
// it returns false. silent are the workers that do not answer.
func (a *Answers) EachConn(ctx context.Context, family int, f func(worker int, c worker.Conn) bool) (silent []int, err error) {
	for _, w := range a.workers.All {
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

// eachConnOf is EachConn for one worker. more is what f returned last.
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

// report translates a worker's counters. It is called on the worker, for its histogram is read.
func report(w *worker.Worker, c *worker.Counters) api.WorkerStats {
	syscalls := c.OwnSleeps
	for i := range c.Queues {
		syscalls += c.Queues[i].Platform.Syscalls
	}
	p := &c.Packets
	return api.WorkerStats{
		Worker: w.ID(), CPU: w.CPU(),
		Rx: p.Rx, Forwarded: p.Forwarded, Replied: p.Replied, ToKernel: p.ToKernel, Dropped: p.Dropped(),
		HandOversOut: p.HandedOut, HandOversIn: p.HandedIn,
		Loops:             c.Turns,
		PacketsPerBatch:   ratio(c.Frames, c.BusyTurns),
		SyscallsPerPacket: ratio(syscalls, c.OwnFrames),
		BusyShare:         ratio(c.BusyNs, c.RunNs),
		BusyS:             float64(c.BusyNs) / 1e9, RunS: float64(c.RunNs) / 1e9,
		StageNs: api.StageNs{
			Receive:  ratio(c.ReceiveNs, c.Frames),
			Process:  ratio(c.ProcessNs, c.Frames),
			Transmit: ratio(c.TransmitNs, c.Frames),
		},
		GapNs: api.GapNs{
			P50: c.Gaps.Quantile(0.5), P99: c.Gaps.Quantile(0.99),
			P999: c.Gaps.Quantile(0.999), Max: c.Gaps.Max(),
			Sum: c.Gaps.Sum(), Counts: c.Gaps.Below(api.GapBounds),
		},
		FramesFree:  uint64(c.FramesFree),
		Connections: uint64(c.Conns4 + c.Conns6),
	}
}

func ratio(a, b uint64) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}
