package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestNotInlined removes one line from a full report, in each form that the compiler writes paths.
func TestNotInlined(t *testing.T) {
	for _, prefix := range []string{"", "./", "sluice/"} {
		var lines []string
		for file, calls := range mustInline {
			for _, call := range calls {
				lines = append(lines, fmt.Sprintf("%s%s:10:20: inlining call to %s", prefix, file, call))
			}
		}
		lines = append(lines, "# sluice/pipeline", "pipeline/pipeline.go:1:2: can inline other")
		if missing := notInlined([]byte(strings.Join(lines, "\n"))); len(missing) != 0 {
			t.Errorf("%q: full report: missing %q", prefix, missing)
		}
		const call = "pipeline/ownership.go:10:20: inlining call to flow.Owner"
		lines = slices.DeleteFunc(lines, func(line string) bool { return strings.HasSuffix(line, call) })
		if missing := notInlined([]byte(strings.Join(lines, "\n"))); !slices.Equal(missing, []string{"pipeline/ownership.go: flow.Owner"}) {
			t.Errorf("%q: one line removed: missing %q", prefix, missing)
		}
	}
}
