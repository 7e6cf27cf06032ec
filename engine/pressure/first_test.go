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

// firstPackets drives a Watch with first packets of service 1 (TCP) and 2 (UDP).
type firstPackets struct {
	t      *testing.T
	now    time.Time
	w      *pressure.Watch
	counts []counter.Service
}

func newFirstPackets(t *testing.T) *firstPackets {
	now := time.Unix(1_000_000, 0)
	return &firstPackets{t: t, now: now, w: pressure.New(now), counts: []counter.Service{{}, {Of: 7}, {Of: 8}}}
}

// step lets a second pass, in which so many first and second packets come to a service.
func (f *firstPackets) step(service uint32, first, second uint64, want string) {
	f.t.Helper()
	f.now = f.now.Add(time.Second)
	f.counts[service].First += first
	f.counts[service].Second += second
	var sources counter.Prefixes
	for n := range first / 16 {
		from := packet.AddrFrom(netip.MustParseAddr("203.0.113.9"))
		if n%2 == 0 {
			from = packet.AddrFrom4(uint32(n) << 8)
		}
		sources.AddMany(service, from.Prefix(), 16)
	}
	all := sources.All()
	var counts []counter.Service
	if pressure.Many(all) || f.w.Any() { // as the engine does
		counts = append(counts, f.counts...)
	}
	f.w.Step(f.now, counts, nil)
	got := ""
	for _, c := range f.w.StepFirst(counts, all, func(number uint32) bool { return number == 1 }) {
		got += fmt.Sprintf("%d ended %v; ", c.Service, c.Ended)
	}
	if got != want {
		f.t.Errorf("after %v: %q, want %q", f.now.Sub(time.Unix(1_000_000, 0)), got, want)
	}
}

// TestFirst follows a flood of SYNs beside ordinary connections.
func TestFirst(t *testing.T) {
	f := newFirstPackets(t)
	f.step(1, 900, 900, "")
	f.counts[1].First += 1_000_000 // since then, in steps without counts
	f.step(1, 30_300, 300, "")
	f.step(1, 30_300, 300, "")
	f.step(1, 30_300, 300, "")
	f.step(1, 30_300, 300, "1 ended false; ")
	first, many := f.w.FirstOf(1)
	if !many || !first.Flood || first.PerSecond != 30_300 || first.Alone < 0.97 || first.Alone > 0.99 {
		t.Errorf("%v %+v", many, first)
	}
	if s := first.Sources; len(s) != 1 || s[0].Prefix.String() != "203.0.113.0/24" || s[0].Share < 0.45 || s[0].Share > 0.55 {
		t.Errorf("%+v", s)
	}
	var steps int
	for steps = 0; f.w.Any() && steps < 20; steps++ {
		f.now = f.now.Add(time.Second)
		f.w.Step(f.now, f.counts, nil)
		f.w.StepFirst(append([]counter.Service(nil), f.counts...), nil, func(uint32) bool { return true })
	}
	if steps < 5 || steps > 12 {
		t.Errorf("it ended %d s after the last packet", steps)
	}
}

// TestFirstOrdinary checks that many connections are no flood: not when they begin at once with
// the second packets a second behind, nor when they end at once, nor single datagrams, nor a few
// SYNs that are not followed; but what is many is reported.
func TestFirstOrdinary(t *testing.T) {
	f := newFirstPackets(t)
	for _, s := range [][2]uint64{{0, 0}, {20_000, 0}, {20_000, 20_000}, {20_000, 20_000}, {20_000, 20_000}, {40_000, 20_000}, {0, 40_000}, {0, 0}, {0, 0}} {
		f.step(1, s[0], s[1], "")
	}
	for range 8 {
		f.step(1, 20_000, 18_000, "")
		f.step(2, 50_000, 0, "")
	}
	if first, many := f.w.FirstOf(2); !many || first.Flood || first.PerSecond < 20_000 || len(first.Sources) != 1 {
		t.Errorf("of UDP: %v %+v", many, first)
	}
	for range 20 {
		f.step(1, 999, 0, "")
	}
	if f.w.Any() {
		t.Error("there are not many any more")
	}
	f.step(1, 5000, 0, "")
	f.step(1, 5000, 0, "")
	f.counts[1] = counter.Service{Of: 9} // the number is another service's
	f.step(1, 100, 0, "")
	if _, many := f.w.FirstOf(1); many {
		t.Error("those of a service that is gone are many")
	}
}
