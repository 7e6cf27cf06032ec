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

// sweeping measures for how long one tick keeps the next batch waiting, when the sweep has as much to do as it may at once: in a full table
// with nothing to remove, and in one where all has expired. The longer counts.
func sweeping(mode service.Mode, family, capacity, rounds, batch int) (result, error) {
	r := result{Name: "sweep", Mode: mode.String(), Family: family, Flows: capacity, BudgetUs: sweepBudgetUs}
	l, err := newLab(family, mode, capacity, batch)
	if err != nil {
		return r, err
	}
	defer l.close()
	if err := l.churn(0, capacity, 0, packet.SYN); err != nil {
		return r, err
	}
	for _, passMs := range []uint32{0, 100_000} { // none is due; all are
		l.nowMs += passMs
		fastest := time.Hour
		for range rounds {
			fastest = min(fastest, l.ticks(40))
		}
		r.TickUs = max(r.TickUs, round1(float64(fastest.Nanoseconds())/1000))
	}
	return r, nil
}

// ticks is what 99 of 100 of n ticks stay below. What is longer is the machine's doing.
func (l *lab) ticks(n int) time.Duration {
	l.times = l.times[:0]
	for range n {
		start := time.Now()
		l.proc.Tick(l.tables, l.nowMs, 8000, pipeline.TickSlotTimes)
		l.times = append(l.times, time.Since(start))
	}
	slices.Sort(l.times)
	return l.times[n*99/100]
}
