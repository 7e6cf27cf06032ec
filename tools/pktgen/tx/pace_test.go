package tx_test

import (
	"testing"
	"time"

	"sluice/tools/pktgen/tx"
)

// clockwork sends with a pace for so long, reads the clock every step, and returns how many frames
// were sent.
func clockwork(p *tx.Pace, from, until, step int64) (frames int) {
	for now := from; now < until; now += step {
		for p.Wait(now) <= 0 {
			p.Took(now)
			frames++
		}
	}
	return frames
}

// TestPaceIsExact: in a second as many frames are sent as the rate requires, however often the
// clock is read.
func TestPaceIsExact(t *testing.T) {
	const start = 123_456_789
	for _, rate := range []float64{1, 3, 999, 1000, 123_457, 1e6, 9_999_999} {
		for _, step := range []time.Duration{10 * time.Microsecond, time.Millisecond, 7 * time.Millisecond} {
			got := clockwork(tx.NewPace(rate), start, start+1e9+int64(step), int64(step))
			// Frames due at the very end, and in the step after it.
			late := rate*2*step.Seconds() + 1
			if d := float64(got) - rate; d < 0 || d > late {
				t.Errorf("rate %v, looking every %v: %d frames in a second", rate, step, got)
			}
		}
	}
}

// TestPaceStaysExact: the pace is exact over an hour.
func TestPaceStaysExact(t *testing.T) {
	const hour = 3600
	frames := clockwork(tx.NewPace(12_345), 0, hour*1e9, 1e6)
	if d := frames - 12_345*hour; d < -13 || d > 13 {
		t.Errorf("%d frames in an hour, want %d", frames, 12_345*hour)
	}
}

// TestPaceMakesUp: a pace makes up for a short stop, and not for a long one.
func TestPaceMakesUp(t *testing.T) {
	for _, c := range []struct {
		stop time.Duration
		want int
	}{{50 * time.Millisecond, 50}, {time.Minute, 100}} {
		p := tx.NewPace(1000)
		before := clockwork(p, 0, 1e9, 1e6)
		burst := clockwork(p, 1e9+int64(c.stop), 1e9+int64(c.stop)+1, 1)
		if before != 1000 || burst < c.want || burst > c.want+1 {
			t.Errorf("after a stop of %v, %d frames go at once, want %d", c.stop, burst, c.want)
		}
	}
}

func TestNoRateIsAlwaysDue(t *testing.T) {
	p := tx.NewPace(0)
	for now := range int64(1000) {
		if p.Wait(now) > 0 {
			t.Fatal("it waits")
		}
		p.Took(now)
	}
}

// TestRecorded: a recorded pace keeps the distances, or half of them.
func TestRecorded(t *testing.T) {
	offset := int64(0)
	p := tx.NewRecorded(func() int64 { return offset }, 2)
	if p.Wait(500) > 0 {
		t.Error("the first frame waits")
	}
	offset = 1000
	if wait := p.Wait(700); wait != 300 {
		t.Errorf("a frame 1000 ns after the first one waits %d ns after 200 at double speed, want 300", wait)
	}
	if p.Wait(1000) > 0 {
		t.Error("and isn't due then")
	}
}
