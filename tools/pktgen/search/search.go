// Package search finds the highest rate at which nothing is lost: the throughput of RFC 2544,
// section 26.1.
package search

import (
	"context"
	"fmt"
)

// Outcome is the result of one trial.
type Outcome struct {
	AskedPPS  float64 `json:"asked_pps"` // 0: as fast as possible
	SentPPS   float64 `json:"sent_pps"`
	Sent      uint64  `json:"sent"`
	Received  uint64  `json:"received"`
	Lost      uint64  `json:"lost"`
	LossRatio float64 `json:"loss_ratio"`
	P50NS     int64   `json:"latency_p50_ns,omitempty"`
	P99NS     int64   `json:"latency_p99_ns,omitempty"`
	Passed    bool    `json:"passed"` // Find sets it
}

// Trial sends at a rate in frames per second, 0 for as fast as possible, and returns the outcome.
type Trial func(ctx context.Context, rate float64) (Outcome, error)

// Config configures a search.
type Config struct {
	HighestPPS float64 // where to begin; 0: as fast as the sender can
	LowestPPS  float64 // give up below; 0: 1
	Resolution float64 // stop when the rates with and without loss differ by this portion, 0 to 1
	Allowed    float64 // loss ratio that counts as no loss; RFC 2544: 0
	Attempts   int     // a rate fails if this many trials in a row fail; 0: 1
	OnTrial    func(Outcome)
}

// Check returns what is wrong.
func (c Config) Check() error {
	switch {
	case !(c.Resolution > 0 && c.Resolution < 1):
		return fmt.Errorf("resolution %v: possible is more than 0 and less than 1, as 0.01 for one percent", c.Resolution)
	case !(c.Allowed >= 0 && c.Allowed < 1):
		return fmt.Errorf("allowed loss %v: possible is 0 up to less than 1", c.Allowed)
	case c.HighestPPS < 0 || c.LowestPPS < 0 || c.HighestPPS > 0 && c.HighestPPS < c.LowestPPS:
		return fmt.Errorf("rates from %v to %v: the lowest must not be above the highest, nor negative", c.LowestPPS, c.HighestPPS)
	case c.Attempts < 0:
		return fmt.Errorf("%d attempts: possible is 1 and more", c.Attempts)
	}
	return nil
}

// Result is the result of a search.
type Result struct {
	// ThroughputPPS is the highest rate that was sent and passed; 0 if none did.
	ThroughputPPS float64 `json:"throughput_pps"`
	// SenderLimited is true if the sender was the limit, not loss.
	SenderLimited bool      `json:"sender_limited"`
	Best          *Outcome  `json:"best,omitempty"` // the trial with that rate
	Trials        []Outcome `json:"trials"`
}

// reached is the portion of the requested rate that a sender must reach for a valid trial.
const reached = 0.98

// Find halves the distance between the highest rate that passed and the lowest that failed until it
// is small. When ctx ends it returns the result so far, without an error.
func Find(ctx context.Context, c Config, trial Trial) (Result, error) {
	if err := c.Check(); err != nil {
		return Result{}, err
	}
	f := finder{Config: c, trial: trial, lowest: max(c.LowestPPS, 1)}
	err := f.find(ctx)
	if ctx.Err() != nil {
		err = nil
	}
	if best := f.result.Best; best != nil {
		f.result.SenderLimited = best.AskedPPS == 0 || limited(*best)
	}
	return f.result, err
}

type finder struct {
	Config
	trial  Trial
	lowest float64
	result Result
}

func (f *finder) find(ctx context.Context) error {
	first, err := f.try(ctx, f.HighestPPS)
	if err != nil {
		return err
	}
	top := first.SentPPS // there are no rates above it
	if f.HighestPPS > 0 && !limited(first) {
		top = f.HighestPPS
	}
	if first.Passed {
		return nil
	}
	passes, fails := 0.0, top
	for fails-passes > f.Resolution*fails && fails > f.lowest {
		rate := max((passes+fails)/2, f.lowest)
		o, err := f.try(ctx, rate)
		if err != nil {
			return err
		}
		switch {
		case o.Passed && limited(o): // nothing is lost, and the sender is the limit
			passes, fails = max(passes, o.SentPPS), rate
		case o.Passed:
			passes = rate
		default:
			fails = rate
		}
	}
	return nil
}

func limited(o Outcome) bool { return o.AskedPPS > 0 && o.SentPPS < reached*o.AskedPPS }

// try runs trials at a rate until one passes or all attempts have failed.
func (f *finder) try(ctx context.Context, rate float64) (o Outcome, err error) {
	for range max(f.Attempts, 1) {
		if o, err = f.trial(ctx, rate); err != nil {
			return o, err
		}
		if ctx.Err() != nil {
			return o, ctx.Err() // it was cut short
		}
		o.AskedPPS = rate
		o.Passed = o.Sent > 0 && o.LossRatio <= f.Allowed
		f.result.Trials = append(f.result.Trials, o)
		if f.OnTrial != nil {
			f.OnTrial(o)
		}
		if o.Passed {
			if o.SentPPS > f.result.ThroughputPPS {
				best := o
				f.result.ThroughputPPS, f.result.Best = o.SentPPS, &best
			}
			return o, nil
		}
	}
	return o, nil
}
