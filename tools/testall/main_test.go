package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRead(t *testing.T) {
	got, err := read("12 2 1\n")
	if want := (tally{passed: 9, failed: 2, skipped: 1}); got != want || err != nil {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if got.String() != "9 tests passed, 2 failed, 1 skipped" {
		t.Error(got)
	}
	if _, err := read(""); err == nil {
		t.Error("no error for no totals")
	}
}

func TestPasses(t *testing.T) {
	memory, machine, race := passes([]Package{
		{"sluice/conf", []string{"testing"}},
		{"sluice/rings", []string{"testing"}},
		{"sluice/ringside", nil},
		{"sluice/engine/xsk", []string{"sluice/tools/netlab"}},
		{"sluice/tools/netlab", []string{"testing"}},
		{"sluice/tools/netlab/decap", []string{"testing"}},
	})
	if diff := cmp.Diff([]string{"sluice/conf", "sluice/rings", "sluice/ringside"}, memory); diff != "" {
		t.Error("memory", diff)
	}
	if diff := cmp.Diff([]string{"sluice/engine/xsk", "sluice/tools/netlab", "sluice/tools/netlab/decap"}, machine); diff != "" {
		t.Error("machine", diff)
	}
	if diff := cmp.Diff([]string{"sluice/rings", "sluice/engine/xsk"}, race); diff != "" {
		t.Error("race", diff)
	}
}
