package pipeline_test

import (
	"fmt"
	"testing"

	"sluice/pipeline/packet/packettest"
)

// crowded is a world with n connections that have seen their SYN, in a table for so many.
func crowded(t *testing.T, n int) *world {
	w := newWorlds(t, 1, n, nat())
	for i := range n {
		w.ends(w.in(packettest.TCP(fmt.Sprintf("192.0.2.%d:%d", 1+i%200, 1024+i/200), web4).Flags(syn)), "forward")
	}
	return w
}

// TestHousekeepEveryMillisecond: with a call per millisecond, a table so small that less than one
// slot is due per call is still swept completely.
func TestHousekeepEveryMillisecond(t *testing.T) {
	w := crowded(t, 50)
	const synRecvMs, roundMs = 60_000, 8_000
	for range synRecvMs + roundMs + 1 {
		w.now++
		w.procs[0].Housekeep(w.tables, w.now, 1, 1<<20)
	}
	if v4, _ := w.procs[0].Entries(); v4 != 0 {
		t.Errorf("%d connections outlive their time by a whole round", v4)
	}
}

// TestHousekeepCatchesUp: slots that a call has no time for are swept by the next one, however
// little time has passed.
func TestHousekeepCatchesUp(t *testing.T) {
	w := crowded(t, 3000)
	p := w.procs[0]
	w.now += 70_000
	ticks := 1
	for behind := p.Housekeep(w.tables, w.now, 70_000, 1000); behind; ticks++ {
		before, _ := p.Entries()
		behind = p.Housekeep(w.tables, w.now, 0, 1000)
		if after, _ := p.Entries(); before-after > 200 {
			t.Fatalf("%d connections removed in the time of 1000 slots", before-after)
		}
	}
	if v4, _ := p.Entries(); v4 != 0 || ticks < 15 {
		t.Errorf("%d connections left after %d ticks", v4, ticks)
	}
	if p.Housekeep(w.tables, w.now, 1, 1000) {
		t.Error("behind after a millisecond")
	}
}
