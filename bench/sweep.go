package main

import (
	"slices"
	"time"

	"sluice/pipeline"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
)

// sweepBudgetUs is the goal for a tick, in us: so long may a batch wait for the sweep.
const sweepBudgetUs = 50

// sweeping measures for how long one tick keeps the next batch waiting, when the sweep has as much
// to do as it may at once: in a full table with nothing to remove, and in one where all has
// expired. The longer counts.
func sweeping(r *result, mode service.Mode, rounds, batch int) error {
	l, err := newLab(r.Family, mode, r.Flows, batch)
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.churn(0, r.Flows, 0, packet.SYN); err != nil {
		return err
	}
	r.TickUs = 0
	for _, passMs := range []uint32{0, 100_000} { // none is due; all are
		l.nowMs += passMs
		fastest := time.Hour
		for range rounds {
			fastest = min(fastest, l.ticks(40))
		}
		r.TickUs = max(r.TickUs, round1(float64(fastest.Nanoseconds())/1000))
	}
	return nil
}

// ticks returns the 99th percentile of n ticks. Longer ticks come from other load on the machine.
func (l *lab) ticks(n int) time.Duration {
	l.times = l.times[:0]
	for range n {
		start := time.Now()
		l.proc.Housekeep(l.tables, l.nowMs, 8000, pipeline.HousekeepingBudget)
		l.times = append(l.times, time.Since(start))
	}
	slices.Sort(l.times)
	return l.times[n*99/100]
}
