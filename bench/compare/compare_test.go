package compare

import (
	"testing"

	"sluice/bench/report"
	"sluice/bench/wire"
)

func TestTicksCountGuestsOnce(t *testing.T) {
	// user nice system idle iowait irq softirq steal guest guest_nice
	used, all := ticks([]string{"10", "1", "20", "60", "5", "1", "2", "1", "10", "1"})
	if used != 35 || all != 100 {
		t.Errorf("used %v of %v, want 35 of 100", used, all)
	}
}

func TestBusySince(t *testing.T) {
	before := busy{balancer: 10, balancerAll: 100, ends: 5, endsAll: 100}
	after := busy{balancer: 60, balancerAll: 200, ends: 5, endsAll: 100}
	if got := after.since(before); got.balancer != 0.5 || got.ends != 0 {
		t.Errorf("shares %v and %v, want 0.5 and 0", got.balancer, got.ends)
	}
}

func TestRelateFindsTheSameLoad(t *testing.T) {
	row := func(system string) report.Row { return report.Row{System: system} }
	entries := []*entry{
		{row: row("empty"), load: wire.Load{Flows: 1}},
		{row: row("empty"), load: wire.Load{Flows: 2}},
		{row: row("sluice"), load: wire.Load{Flows: 2}},
		{row: row("sluice"), load: wire.Load{Flows: 3}},
	}
	relate(entries)
	for i, want := range []*entry{entries[0], entries[1], entries[1], nil} {
		if entries[i].empty != want {
			t.Errorf("entry %d is compared with %v", i, entries[i].empty)
		}
	}
}

func TestMedianLatencyTakesEachFigureByItself(t *testing.T) {
	got := medianLatency([]report.Latency{{P50: 1, P99: 30}, {P50: 3, P99: 10}, {P50: 2, P99: 20}})
	if got.P50 != 2 || got.P99 != 20 {
		t.Errorf("p50 %v and p99 %v, want 2 and 20", got.P50, got.P99)
	}
}
