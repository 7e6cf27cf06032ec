package pipeline_test

import (
	"testing"

	"sluice/pipeline"
	"sluice/pipeline/packet/packettest"
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
