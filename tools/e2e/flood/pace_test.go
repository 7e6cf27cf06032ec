package flood

import (
	"testing"
	"time"
)

// TestPace: a sender that asks often sends at the rate, in bursts with pauses between; one that was
// away makes up for a little of it.
func TestPace(t *testing.T) {
	p := &pace{rate: 30_000}
	now, sent, pauses := int64(1), 0, 0
	run := func(until int64) {
		for now < until {
			if wait := p.Wait(now); wait > 0 {
				now += wait
				pauses++
				continue
			}
			p.Took(now)
			sent++
		}
	}
	second := int64(time.Second)
	run(second)
	if sent < 29_900 || sent > 30_100 || pauses < 990 || pauses > 1010 {
		t.Errorf("%d packets and %d pauses in a second", sent, pauses)
	}
	now, sent = 11*second, 0 // nothing for ten seconds
	run(12 * second)
	if sent < 30_500 || sent > 30_700 {
		t.Errorf("%d packets in a second after a long pause", sent)
	}
}
