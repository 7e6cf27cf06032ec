// Package report formats the results of the network benchmark: rows with their statistics, as JSON,
// as Markdown tables and as SVG plots. It measures nothing.
package report

import (
	"math"
	"slices"
)

// Units of a row.
const (
	Mpps = "mpps" // millions of packets per second
	CPS  = "cps"  // connections per second
	Gbps = "gbps" // payload
)

// Row is one system under one load. Figures that a row doesn't have are nil, and not in its JSON.
type Row struct {
	Name       string `json:"name"`       // experiment/system/parameters, unique
	Experiment string `json:"experiment"` // capacity, flows, sizes, ...
	System     string `json:"system"`     // sluice, empty, l2fwd, forward, nftables, ipvs, haproxy
	Mode       string `json:"mode"`       // nat, tun, ... ; the system's name where it has none
	AFXDP      string `json:"af_xdp,omitempty"`
	Skipped    string `json:"skipped,omitempty"` // why there are no figures

	Mpps   *float64  `json:"mpps,omitempty"` // the median, under the name of its unit
	CPS    *float64  `json:"cps,omitempty"`
	Gbps   *float64  `json:"gbps,omitempty"`
	Median *float64  `json:"median,omitempty"`
	Min    *float64  `json:"min,omitempty"`
	Max    *float64  `json:"max,omitempty"`
	Rounds []float64 `json:"rounds,omitempty"` // one figure each, in the order of measurement

	// RatioToEmpty is the median of the ratios to the empty loop of the same round.
	RatioToEmpty      *float64 `json:"ratio_to_empty,omitempty"`
	RatioMin          *float64 `json:"ratio_min,omitempty"`
	RatioMax          *float64 `json:"ratio_max,omitempty"`
	SyscallsPerPacket *float64 `json:"syscalls_per_packet,omitempty"`
	PacketsPerBatch   *float64 `json:"packets_per_batch,omitempty"`
	// CPUNsPerPacket is the CPU time of the balancer's process per packet, including the kernel's
	// work on its behalf. It is meaningful even if other processes use the CPU now and then.
	CPUNsPerPacket *float64 `json:"cpu_ns_per_packet,omitempty"`
	OfferedMpps    *float64 `json:"offered_mpps,omitempty"` // median

	// RatioToFresh is the median of the ratios to the row with fresh ports in the same round.
	RatioToFresh *float64 `json:"ratio_to_fresh,omitempty"`

	Ports       string `json:"ports,omitempty"` // what SNAT ports were used for
	Protocol    string `json:"protocol,omitempty"`
	Flows       int    `json:"flows,omitempty"`
	FrameBytes  int    `json:"frame_bytes,omitempty"` // without frame check sequence
	Services    int    `json:"services,omitempty"`
	Backends    int    `json:"backends,omitempty"` // of each service
	Workers     int    `json:"workers,omitempty"`
	Connections int    `json:"connections,omitempty"`  // at the same time
	LoadPercent int    `json:"load_percent,omitempty"` // of the capacity that was measured
	Offloads    bool   `json:"offloads,omitempty"`     // no checksums, no segmentation

	Latency *Latency `json:"latency,omitempty"`
	// BalancerCPU is the portion of time that the balancer's CPU was not idle, 0 to 1; median.
	BalancerCPU *float64 `json:"balancer_cpu,omitempty"`
	EndsCPU     *float64 `json:"ends_cpu,omitempty"`
}

// Latency is in microseconds, from the sender's stamp to the receiver's driver; each figure is the
// median of the rounds.
type Latency struct {
	P50   float64 `json:"p50_us"`
	P99   float64 `json:"p99_us"`
	P999  float64 `json:"p99_9_us"`
	Max   float64 `json:"max_us"`
	Added float64 `json:"p50_added_us"` // to the same path without a balancer
	Lost  float64 `json:"lost"`         // portion of the frames, 0 to 1
}

// Set fills in the figures of all rounds.
func (r *Row) Set(unit string, rounds []float64) {
	if len(rounds) == 0 {
		return
	}
	r.Rounds = make([]float64, len(rounds))
	for i, v := range rounds {
		r.Rounds[i] = Round(v)
	}
	r.Median, r.Min, r.Max = figure(Median(rounds)), figure(slices.Min(rounds)), figure(slices.Max(rounds))
	switch unit {
	case Mpps:
		r.Mpps = r.Median
	case CPS:
		r.CPS = r.Median
	case Gbps:
		r.Gbps = r.Median
	}
}

// Compare fills in the ratio to the empty loop, round by round. Other load that lasts longer than a
// round affects both.
func (r *Row) Compare(rounds, empty []float64) {
	if ratios := ratios(rounds, empty); len(ratios) > 0 {
		r.RatioToEmpty, r.RatioMin, r.RatioMax = figure(Median(ratios)), figure(slices.Min(ratios)), figure(slices.Max(ratios))
	}
}

// ratios returns the ratios of rounds to those of a reference.
func ratios(rounds, reference []float64) (all []float64) {
	for i := range min(len(rounds), len(reference)) {
		if reference[i] > 0 {
			all = append(all, rounds[i]/reference[i])
		}
	}
	return all
}

// MedianRatio returns the median of the ratios, round by round; nil if there is none.
func MedianRatio(rounds, reference []float64) *float64 {
	if all := ratios(rounds, reference); len(all) > 0 {
		return figure(Median(all))
	}
	return nil
}

// Unit returns the unit of the row's figures, "" if it has none.
func (r *Row) Unit() string {
	switch {
	case r.Mpps != nil:
		return Mpps
	case r.CPS != nil:
		return CPS
	case r.Gbps != nil:
		return Gbps
	}
	return ""
}

// Number returns a figure that may be missing: a negative one is unknown.
func Number(v float64) *float64 {
	if v < 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return figure(v)
}

func figure(v float64) *float64 { v = Round(v); return &v }

// Round keeps four significant digits, because more are noise.
func Round(v float64) float64 {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(v))))
	return math.Round(v*scale) / scale
}

// Median returns the middle value, or the mean of the middle two; 0 of none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}
