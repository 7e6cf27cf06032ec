package pipeline_test

import (
	"testing"

	"sluice/pipeline"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/service"
)

// TestDryRunKnowsTemplatesInUse checks that a dry run finds a persistence template that has expired
// but has connections under it, as the worker does.
func TestDryRunKnowsTemplatesInUse(t *testing.T) {
	s := nat()
	s.persistMs = 1000
	w := newWorld(t, s)
	first := w.in(packettest.TCP("192.0.2.7:4000", web4).Flags(syn))
	w.ends(first, "forward")
	w.now += 5000 // and no tick
	p := packettest.TCP("192.0.2.7:4001", web4).Flags(syn)
	x, c := pipeline.NewDryRun(0, 1, w.seed, w.tables, w.loads), p.Chunk()
	w.procs[0].DryRun(x, pipeline.Frame{Mem: c.Mem, Start: c.Start, End: c.End}, w.tables, w.now)
	if !x.Bound || x.Picked {
		t.Errorf("bound by the template: %t, the scheduler is asked: %t", x.Bound, x.Picked)
	}
	o, got := w.in(p), outcome{x.Frame, 0}
	if got.String() != o.String() || string(got.frame()) != string(o.frame()) {
		t.Errorf("%s\n%s\ndry run\n%s", o, packettest.Decode(o.frame()), packettest.Decode(got.frame()))
	}
}

// TestDryRunAdopts checks that a dry run knows that a service without adopt is under pressure, so
// that a segment of an unknown connection goes by a hash, and is answered by RST again a minute
// later.
func TestDryRunAdopts(t *testing.T) {
	const table = 64
	w := newWorlds(t, 1, table, svc{mode: service.TUN, idleMs: 10_000, backends: []backend{{host: 11, port: 80}, {host: 12, port: 80}}})
	p := packettest.TCP("203.0.113.7:4000", web4)
	predicts := func(verdict string) {
		t.Helper()
		x, c := pipeline.NewDryRun(0, 1, w.seed, w.tables, w.loads), p.Chunk()
		w.procs[0].DryRun(x, pipeline.Frame{Mem: c.Mem, Start: c.Start, End: c.End}, w.tables, w.now)
		o, got := w.in(p), outcome{x.Frame, 0}
		if o.String() != verdict || got.String() != verdict || hostOf(got) != hostOf(o) {
			t.Errorf("%s to host %d, dry run %s to %d, want %s", o, hostOf(o), got, hostOf(got), verdict)
		}
	}
	w.fillProven(2 * table)
	w.ends(w.in(packettest.TCP("203.0.113.8:4000", web4).Flags(syn)), "forward")
	predicts("forward")
	w.pass(30_000) // there is space again
	predicts("forward")
	w.pass(100_000)
	predicts("reply")
}
