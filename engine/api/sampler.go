package api

import (
	"context"
	"time"
)

// sampler computes Samples from snapshots. Only one goroutine may use it.
type sampler struct {
	at       time.Time // of the last snapshot; zero: none yet
	stats    Stats
	services map[string]Service
	shown    map[string]ServiceSample // as of the last sample
}

// sample reads the counters and returns what happened since its last call; the first time it
// returns nothing.
func (p *sampler) sample(ctx context.Context, control Control) (Sample, bool) {
	services, err := control.List(ctx)
	if Answered(err) != nil {
		return Sample{}, false
	}
	stats, err := control.Stats(ctx)
	if Answered(err) != nil {
		return Sample{}, false
	}
	now := time.Now()
	sample := Sample{
		Time: now, IntervalS: now.Sub(p.at).Seconds(),
		Rx: Growth(p.stats.Rx, stats.Rx), Forwarded: Growth(p.stats.Forwarded, stats.Forwarded), Replied: Growth(p.stats.Replied, stats.Replied),
		ToKernel:    Growth(p.stats.ToKernel, stats.ToKernel),
		Drops:       map[string]uint64{},
		Connections: stats.Tables.ConnectionsV4 + stats.Tables.ConnectionsV6, Capacity: stats.Tables.Capacity,
		Services: p.diff(services), Workers: p.workers(stats),
	}
	for reason, n := range stats.Drops {
		if d := Growth(p.stats.Drops[reason], n); d > 0 {
			sample.Drops[reason] = d
		}
	}
	first := p.at.IsZero()
	p.at, p.stats = now, stats
	return sample, !first
}

// diff returns the services that changed, and stores them all.
func (p *sampler) diff(services []Service) []ServiceSample {
	out := []ServiceSample{}
	seen, shown := make(map[string]Service, len(services)), make(map[string]ServiceSample, len(services))
	for _, s := range services {
		before, known := p.services[s.Name]
		n := CountBackends(s)
		state := ServiceSample{Name: s.Name, Backends: n.Total, Up: n.Up, Down: n.Down, Drain: n.Drain, Protected: n.Protected}
		for _, b := range s.Backends {
			state.Active += uint64(b.Active)
			state.Inactive += uint64(b.Inactive)
		}
		full := state
		if known {
			full.Connections = Growth(before.Connections, s.Connections)
			full.Packets, full.Bytes = Growth(before.Packets, s.Packets), Growth(before.Bytes, s.Bytes)
			full.PacketsOut, full.BytesOut = Growth(before.PacketsOut, s.PacketsOut), Growth(before.BytesOut, s.BytesOut)
		}
		if last, was := p.shown[s.Name]; !was || last != state || full != state {
			out = append(out, full)
		}
		s.Backends = nil // only the sums are needed next time
		seen[s.Name] = s
		if p.services != nil {
			shown[s.Name] = state
		}
	}
	p.services, p.shown = seen, shown
	return out
}

func (p *sampler) workers(stats Stats) []WorkerSample {
	out := make([]WorkerSample, 0, len(stats.Workers))
	for i, w := range stats.Workers {
		sample := WorkerSample{Worker: w.Worker, CPU: w.CPU}
		if i < len(p.stats.Workers) {
			before := p.stats.Workers[i]
			sample.Packets = Growth(before.Rx, w.Rx)
			sample.Busy = BusyBetween(before, w)
		}
		out = append(out, sample)
	}
	return out
}

// BusyBetween returns the portion of the time between two snapshots of a worker, 0 to 1, that was
// spent on frames.
func BusyBetween(before, after WorkerStats) float64 {
	elapsed := after.RunS - before.RunS
	if elapsed <= 0 {
		return 0
	}
	return min(1, max(0, (after.BusyS-before.BusyS)/elapsed))
}
