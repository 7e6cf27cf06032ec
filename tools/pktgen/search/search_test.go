package search_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"sluice/tools/pktgen/search"
)

// device passes so many frames per second and drops the rest; its sender can't go faster than
// fastest.
func device(capacity, fastest float64) search.Trial {
	return func(_ context.Context, rate float64) (search.Outcome, error) {
		sent := rate
		if rate == 0 || rate > fastest {
			sent = fastest
		}
		o := search.Outcome{SentPPS: sent, Sent: uint64(sent), Received: uint64(min(sent, capacity))}
		o.Lost = o.Sent - o.Received
		o.LossRatio = float64(o.Lost) / float64(o.Sent)
		return o, nil
	}
}

func TestFindsTheCapacity(t *testing.T) {
	for _, capacity := range []float64{5, 1000, 123_456, 999_999, 2_999_999} {
		for _, highest := range []float64{0, 2_500_000} {
			c := search.Config{HighestPPS: highest, Resolution: 0.001}
			r, err := search.Find(context.Background(), c, device(capacity, 3_000_000))
			if err != nil {
				t.Fatal(err)
			}
			want := capacity
			if highest > 0 {
				want = min(want, highest)
			}
			if r.ThroughputPPS > want+1 || r.ThroughputPPS < want*0.999-1 || r.SenderLimited {
				t.Errorf("capacity %v, highest rate %v: found %v, sender limited %v", capacity, highest, r.ThroughputPPS, r.SenderLimited)
			}
			if steps := 2 + math.Log2(3_000_000/capacity) + math.Log2(1/c.Resolution); float64(len(r.Trials)) > steps {
				t.Errorf("capacity %v took %d trials, want at most %.0f", capacity, len(r.Trials), steps)
			}
			if r.Best == nil || !r.Best.Passed || r.Best.SentPPS != r.ThroughputPPS {
				t.Errorf("best trial %+v", r.Best)
			}
		}
	}
}

// TestSenderIsTheLimit: nothing is lost, so the result is the sender's rate.
func TestSenderIsTheLimit(t *testing.T) {
	for _, highest := range []float64{0, 5_000_000} {
		r, err := search.Find(context.Background(), search.Config{HighestPPS: highest, Resolution: 0.01}, device(1e9, 3_000_000))
		if err != nil || !r.SenderLimited || r.ThroughputPPS != 3_000_000 || len(r.Trials) != 1 {
			t.Errorf("highest %v: %+v, %v", highest, r, err)
		}
	}
}

// TestSenderGetsSlower: the sender was fast enough to lose frames once and is not any more.
func TestSenderGetsSlower(t *testing.T) {
	trials := 0
	r, err := search.Find(context.Background(), search.Config{Resolution: 0.01}, func(ctx context.Context, rate float64) (search.Outcome, error) {
		trials++
		if trials == 1 {
			return device(1e6, 3e6)(ctx, rate)
		}
		return device(1e6, 400_000)(ctx, rate)
	})
	if err != nil || !r.SenderLimited || r.ThroughputPPS != 400_000 || len(r.Trials) > 12 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestNothingPasses(t *testing.T) {
	r, err := search.Find(context.Background(), search.Config{HighestPPS: 1e6, LowestPPS: 100, Resolution: 0.01}, device(50, 1e6))
	if err != nil || r.ThroughputPPS != 0 || r.Best != nil {
		t.Errorf("%+v, %v", r, err)
	}
	if last := r.Trials[len(r.Trials)-1]; last.AskedPPS != 100 {
		t.Errorf("the last trial was at %v, want the lowest rate", last.AskedPPS)
	}
}

// TestAllowedLoss: an allowed loss ratio counts as none.
func TestAllowedLoss(t *testing.T) {
	r, err := search.Find(context.Background(), search.Config{HighestPPS: 2e6, Resolution: 0.001, Allowed: 0.1}, device(900_000, 3e6))
	if err != nil || r.ThroughputPPS < 999_000 || r.ThroughputPPS > 1_000_001 {
		t.Errorf("%v, %v, want 1 M", r.ThroughputPPS, err)
	}
}

// TestAttempts: one bad trial of three doesn't count.
func TestAttempts(t *testing.T) {
	trials := 0
	flaky := func(ctx context.Context, rate float64) (search.Outcome, error) {
		trials++
		o, err := device(500_000, 1e6)(ctx, rate)
		if trials%2 == 1 {
			o.Lost, o.LossRatio = o.Lost+1, o.LossRatio+1e-9
		}
		return o, err
	}
	r, err := search.Find(context.Background(), search.Config{HighestPPS: 1e6, Resolution: 0.01, Attempts: 3}, flaky)
	if err != nil || r.ThroughputPPS < 490_000 || r.ThroughputPPS > 500_000 {
		t.Errorf("%v, %v, want 500 k", r.ThroughputPPS, err)
	}
}

// TestEndsEarly: a trial that was cut short doesn't count, what was found before does.
func TestEndsEarly(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	trials := 0
	r, err := search.Find(ctx, search.Config{HighestPPS: 1e6, Resolution: 0.001}, func(ctx context.Context, rate float64) (search.Outcome, error) {
		if trials++; trials == 4 {
			cancel()
		}
		return device(600_000, 1e6)(ctx, rate)
	})
	if err != nil || len(r.Trials) != 3 || r.ThroughputPPS != 500_000 {
		t.Errorf("%d trials, %v, %v", len(r.Trials), r.ThroughputPPS, err)
	}
}

func TestErrorsEndIt(t *testing.T) {
	broken := errors.New("the cable is out")
	_, err := search.Find(context.Background(), search.Config{Resolution: 0.01}, func(context.Context, float64) (search.Outcome, error) {
		return search.Outcome{}, broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	for want, c := range map[string]search.Config{
		"resolution":   {},
		"allowed loss": {Resolution: 0.1, Allowed: 1},
		"lowest":       {Resolution: 0.1, HighestPPS: 1, LowestPPS: 2},
		"attempts":     {Resolution: 0.1, Attempts: -1},
	} {
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}
