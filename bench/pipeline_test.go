package main

import (
	"testing"

	"sluice/pipeline/service"
)

func TestVerdict(t *testing.T) {
	rows := []result{
		{Name: "reply", Mode: "nat", Family: 4, Flows: 1000, NsPerPacket: 90},
		{Name: "established", Mode: "nat", Family: 6, Flows: 1000, NsPerPacket: 52, BudgetNs: goal(service.NAT, 6, 40)},
		{Name: "sweep", Mode: "nat", Family: 4, Flows: 1000, TickUs: 49, BudgetUs: 50},
		{Name: "workers", Mode: "nat", Family: 4, Flows: 2000, NsPerPacket: 20, RatioToOne: 1.9, RatioGoal: 1.9},
		{Name: "denied", Mode: "nat", Family: 4, Flows: 1000, RatioOf: "established", Ratio: 1.5, RatioMost: floodMost},
		{Name: "reload", Mode: "nat", Family: 4, Flows: 1000, BudgetUs: 1000, Reloads: &reloads{AddedUs: 1000}},
	}
	check := func(want string) {
		t.Helper()
		for i := range rows {
			rows[i].checkGoal()
		}
		if got := verdict(rows); got != want {
			t.Errorf("%q instead of %q", got, want)
		}
	}
	check("all 5 goals are reached")
	rows[1].NsPerPacket, rows[2].TickUs, rows[3].RatioToOne, rows[4].Ratio, rows[5].Reloads.AddedUs = 52.1, 50.1, 1.89, 1.51, 1000.1
	check("0 of 5 goals are reached, but not by established/nat/6/1000, sweep/nat/4/1000, workers/nat/4/2000, denied/nat/4/1000, reload/nat/4/1000")
}
