package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCount(t *testing.T) {
	const output = `{"Action":"start","Package":"sluice/a"}
{"Action":"output","Package":"sluice/a","Test":"TestGood","Output":"quiet\n"}
{"Action":"pass","Package":"sluice/a","Test":"TestGood","Elapsed":0.1}
{"Action":"output","Package":"sluice/a","Test":"TestBad","Output":"    a_test.go:9: it broke\n"}
{"Action":"fail","Package":"sluice/a","Test":"TestBad","Elapsed":0.1}
{"Action":"output","Package":"sluice/a","Test":"TestIdle","Output":"    a_test.go:12: needs root: makes namespaces\n"}
{"Action":"skip","Package":"sluice/a","Test":"TestIdle","Elapsed":0}
{"Action":"fail","Package":"sluice/a","Elapsed":0.3}
{"Action":"pass","Package":"sluice/b","Test":"TestOther"}
{"Action":"pass","Package":"sluice/b","Elapsed":1.5}
go: something of its own
{"ImportPath":"sluice/c","Action":"build-output","Output":"c/c.go:3: syntax error\n"}
{"ImportPath":"sluice/c","Action":"build-fail"}
{"Action":"output","Package":"sluice/c","Output":"FAIL\tsluice/c [build failed]\n"}
{"Action":"fail","Package":"sluice/c","Elapsed":0}
`
	var printed strings.Builder
	got := count(strings.NewReader(output), &printed)
	want := Tally{Packages: 3, Passed: 2, Failed: 2, Skipped: []string{"sluice/a.TestIdle: needs root: makes namespaces"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, want := range []string{"it broke", "FAIL sluice/a", "ok   sluice/b", "FAIL sluice/c", "c/c.go:3: syntax error", "go: something of its own"} {
		if !strings.Contains(printed.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, printed.String())
		}
	}
	if strings.Contains(printed.String(), "quiet") {
		t.Error("the output of a test that passed was printed")
	}
	if got.String() != "2 tests passed, 2 failed, 1 skipped in 3 packages" {
		t.Error(got)
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
