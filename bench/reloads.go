package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"time"

	"sluice/bench/steady"
	"sluice/engine/cpu"
)

// reloads is what reloads of the configuration cost packets that arrive at a steady rate. Windows
// with a reload and windows without take turns. Times are from a packet's arrival to transmission.
// Those of the calmest windows count: other load on the machine can only raise them.
type reloads struct {
	Services int     `json:"services"`
	Backends int     `json:"backends"` // of each service
	Rate     int     `json:"packets_per_second"`
	ReloadMs float64 `json:"reload_ms"` // the fastest
	Without  tail    `json:"without"`
	With     tail    `json:"with"`
	AddedUs  float64 `json:"p99_9_added_us"` // between the calmest windows
	Lost     int     `json:"lost"`
}

// tail has the 99.9th percentile of each window, and the calmest one.
type tail struct {
	P999Us  float64   `json:"p99_9_us"`
	Windows []float64 `json:"windows_p99_9_us"`
}

const (
	reloadWindows  = 6
	steadyFlows    = 10_000
	steadyRate     = 50_000
	reloadBudgetUs = 1000
)

// reloading measures 1,000 services of 100 backends, one worker. Each reload changes a weight in
// every service.
func reloading(match *regexp.Regexp) ([]result, error) {
	r := result{Name: "reload", Mode: "nat", Family: 4, Flows: steadyFlows, BudgetUs: reloadBudgetUs}
	if !match.MatchString(fmt.Sprintf("%s/%s/%d/%d", r.Name, r.Mode, r.Family, r.Flows)) {
		return nil, nil
	}
	cpus, err := cpu.Allowed()
	if err != nil {
		return nil, err
	}
	if len(cpus) < 2 {
		fmt.Println("reload: skipped: the worker needs a CPU of its own, and this machine has one")
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	o := steady.Options{CPU: cpus[len(cpus)-1], Services: 1000, Backends: 100, Flows: steadyFlows, Rate: steadyRate}
	s, err := steady.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	r.Reloads = &reloads{Services: o.Services, Backends: o.Backends, Rate: o.Rate, ReloadMs: math.Inf(1)}
	for range reloadWindows {
		if err := r.Reloads.window(ctx, s); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	if err := s.Close(); err != nil {
		return nil, err
	}
	r.Reloads.AddedUs = round1(r.Reloads.With.P999Us - r.Reloads.Without.P999Us)
	r.checkGoal()
	fmt.Printf("%-12s %-7s %6d %10d p99.9 of packets: %.1f us without reloads, %.1f with: %+.1f us, goal %.0f; a reload takes %.0f ms\n",
		r.Name, r.Mode, r.Family, r.Flows, r.Reloads.Without.P999Us, r.Reloads.With.P999Us, r.Reloads.AddedUs, r.BudgetUs, r.Reloads.ReloadMs)
	return []result{r}, nil
}

// window measures one window with a reload, and one of the same length without.
func (r *reloads) window(ctx context.Context, s *steady.Stream) error {
	with, err := s.Measure(ctx, func() error { return s.Reload(ctx) })
	if err != nil {
		return err
	}
	without, err := s.Measure(ctx, func() error {
		time.Sleep(time.Duration(with.Seconds * float64(time.Second)))
		return nil
	})
	if err != nil {
		return err
	}
	r.ReloadMs = min(r.ReloadMs, round1(1000*with.Seconds))
	r.With.add(with)
	r.Without.add(without)
	r.Lost += with.Lost + without.Lost
	return nil
}

// add adds a window.
func (t *tail) add(r steady.Reading) {
	t.Windows = append(t.Windows, round1(r.P999Us))
	t.P999Us = slices.Min(t.Windows)
}
