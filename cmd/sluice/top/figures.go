package top

import (
	"cmp"
	"context"
	"slices"
	"time"

	"sluice/engine/api"
)

// Daemon is the part of api.Control that top uses.
type Daemon interface {
	List(ctx context.Context) ([]api.Service, error)
	Stats(ctx context.Context) (api.Stats, error)
	Status(ctx context.Context) (api.Status, error)
	SetWeight(ctx context.Context, service, backend string, weight int) (api.Backend, error)
	Override(ctx context.Context, r api.OverrideRequest) (api.Backend, error)
}

// Snapshot is a daemon's answers at one moment.
type Snapshot struct {
	At       time.Time
	Services []api.Service
	Stats    api.Stats
	Status   api.Status
}

// ReadSnapshot reads a Snapshot from the daemon.
func ReadSnapshot(ctx context.Context, daemon Daemon) (Snapshot, error) {
	s := Snapshot{At: time.Now()}
	var err error
	if s.Services, err = daemon.List(ctx); api.Answered(err) != nil {
		return s, err
	}
	if s.Stats, err = daemon.Stats(ctx); api.Answered(err) != nil {
		return s, err
	}
	s.Status, err = daemon.Status(ctx)
	return s, err
}

// Figures are the results of two snapshots; after the first, all rates are 0.
type Figures struct {
	Snapshot
	Rates                  map[api.Rated]api.Rate
	Rx, Forwarded, Replied float64 // packets per second
	ToKernel, Lost         float64 // likewise
	InBits, OutBits, CPS   float64 // per second, all services
	Drops                  []Drop  // those that ever occurred, the highest rate first
	// Busy is the busy portion of each worker between the snapshots, 0 to 1.
	Busy      []float64
	Restarted bool // the daemon has restarted
}

// Drop is one drop reason with its count.
type Drop struct {
	Name, Text string
	Total      uint64
	PerSecond  float64
}

// Compare computes the figures. before is the zero Snapshot if there was none.
func Compare(before, now Snapshot) Figures {
	f := Figures{Snapshot: now, Restarted: !before.At.IsZero() && now.Stats.UptimeS < before.Stats.UptimeS}
	if before.At.IsZero() || f.Restarted {
		before = Snapshot{At: now.At}
	}
	elapsed := now.At.Sub(before.At)
	f.Rates = api.RatesOf(before.Services, now.Services, elapsed)
	for _, s := range now.Services {
		r := f.Rates[api.Rated{Service: s.Key()}]
		f.CPS += r.CPS
		f.InBits += 8 * r.InBPS
		f.OutBits += 8 * r.OutBPS
	}
	was, is := before.Stats, now.Stats
	f.Rx = api.PerSecond(was.Rx, is.Rx, elapsed)
	f.Forwarded = api.PerSecond(was.Forwarded, is.Forwarded, elapsed)
	f.Replied = api.PerSecond(was.Replied, is.Replied, elapsed)
	f.ToKernel = api.PerSecond(was.ToKernel, is.ToKernel, elapsed)
	f.Lost = api.PerSecond(was.Dropped(), is.Dropped(), elapsed)
	f.Drops = drops(was, is, elapsed)
	f.Busy = busy(was, is)
	return f
}

func drops(was, is api.Stats, elapsed time.Duration) (all []Drop) {
	texts := make(map[string]string)
	for _, reason := range api.DropReasons() {
		texts[reason.Name] = reason.Text
	}
	for name, total := range is.Drops {
		if total > 0 {
			all = append(all, Drop{name, texts[name], total, api.PerSecond(was.Drops[name], total, elapsed)})
		}
	}
	slices.SortFunc(all, func(a, b Drop) int {
		return cmp.Or(cmp.Compare(b.PerSecond, a.PerSecond), cmp.Compare(b.Total, a.Total), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// busy returns the workers' busy portions of the time between two snapshots.
func busy(was, is api.Stats) []float64 {
	shares := make([]float64, len(is.Workers))
	for i, w := range is.Workers {
		shares[i] = w.BusyShare
		if i < len(was.Workers) && w.RunS > was.Workers[i].RunS {
			shares[i] = api.BusyBetween(was.Workers[i], w)
		}
	}
	return shares
}
