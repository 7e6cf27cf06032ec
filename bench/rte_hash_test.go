package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestRTEHashLines reads the lines of a program that stands in for that of rte_hash.
func TestRTEHashLines(t *testing.T) {
	program := filepath.Join(t.TempDir(), "rte_hash")
	script := "#!/bin/sh\n[ \"$1\" = 0 ] || { echo no CPU >&2; exit 1; }\necho 1000 13.25 12.5 14\necho 100000 20 21.5\n"
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	rows, err := runRTEHash(t.Context(), program, []string{"0"})
	if err != nil || len(rows) != 2 {
		t.Fatalf("rows %+v, error %v", rows, err)
	}
	if r := rows[0]; r.Flows != 1000 || r.NsPerPacket != 12.5 || r.Median != 13.3 || r.Max != 14 || r.Met != nil {
		t.Errorf("%+v", r)
	}
	if _, err := runRTEHash(t.Context(), program, []string{"1"}); err == nil || err.Error() != "exit status 1: no CPU\n" {
		t.Errorf("error %v", err)
	}
}
