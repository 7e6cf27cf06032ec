package pressure_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"sluice/engine/pressure"
	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
)

// TestWatch follows a flood from its begin to its end: the pressure begins with the first new
// connection without a free entry and ends five seconds after the last, and the figures are those
// of the flood.
func TestWatch(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	w := pressure.New(now)
	counts := []counter.Service{{}, {Of: 7}, {Of: 8}}
	var busy, rare counter.Prefixes
	for n := range 1000 {
		from := packet.AddrFrom(netip.MustParseAddr("203.0.113.9"))
		if n%2 == 0 {
			from = packet.AddrFrom4(uint32(n) << 8)
		}
		busy.Add(1, from.Prefix())
	}
	rare.Add(2, packet.AddrFrom(netip.MustParseAddr("2001:db8:1:2::3")).Prefix())
	step := func(want string, sources *counter.Prefixes) {
		t.Helper()
		now = now.Add(time.Second)
		told := append([]counter.Service(nil), counts...)
		got := ""
		for _, c := range w.Step(now, told, sources.All()) {
			got += fmt.Sprintf("%d ended %v after %v: %d; ", c.Service, c.Ended, now.Sub(c.Since), c.FoundFull)
		}
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	none := new(counter.Prefixes)
	step("", none)
	counts[1].FoundFull, counts[1].TableFull = 1000, 10
	step("1 ended false after 0s: 1000; ", &busy)
	counts[1].FoundFull, counts[1].Untracked, counts[2].FoundFull, counts[2].SNATExhausted = 2000, 5, 1, 1
	step("2 ended false after 0s: 1; ", &rare)
	s, under := w.Of(1)
	if !under || s.PerSecond != 1000 || s.Refused != 10 || s.Untracked != 5 || s.Displacing() != 1985 {
		t.Errorf("%v %+v", under, s)
	}
	// Half of those of the first step, which count three quarters, and none of the second.
	if len(s.Sources) != 1 || s.Sources[0].Prefix.String() != "203.0.113.0/24" || s.Sources[0].Share < 0.2 || s.Sources[0].Share > 0.25 {
		t.Errorf("%+v", s.Sources)
	}
	if s, under := w.Of(2); !under || s.PerSecond != 1 || s.Refused != 1 || s.Sources[0].Prefix.String() != "2001:db8:1::/48" {
		t.Errorf("%v %+v", under, s)
	}
	for range 4 {
		step("", none)
	}
	step("1 ended true after 6s: 2000; 2 ended true after 5s: 1; ", none)
	if _, under := w.Of(1); under || w.Any() {
		t.Error("it has not ended")
	}
	counts[1].FoundFull++
	step("1 ended false after 0s: 1; ", none)
	counts[1] = counter.Service{Of: 9} // the number is another service's
	step("", none)
	if w.Any() {
		t.Error("the pressure on a service that is gone has not ended")
	}
}
