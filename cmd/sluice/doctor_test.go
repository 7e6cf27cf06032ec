package main

import (
	"encoding/json"
	"strings"
	"testing"

	"sluice/engine/doctor"
)

// TestDoctor: it says something about everything, whatever the machine is like, and fails when
// there is a problem.
func TestDoctor(t *testing.T) {
	t.Parallel()
	bad := writeFile(t, "bad.toml", "[[port]]\nname = \"eth0\"\ncolour = \"red\"\n")
	code, stdout, stderr := sluice("doctor", "--config", bad, "--socket", "/nowhere/s", "-o", "json")
	var all []doctor.Finding
	if err := json.Unmarshal([]byte(stdout), &all); err != nil {
		t.Fatal(err, stdout, stderr)
	}
	seen := map[string]bool{}
	for _, f := range all {
		seen[f.Check] = true
		if f.Text == "" || f.Severity == doctor.Problem && f.Fix == "" {
			t.Errorf("%+v", f)
		}
	}
	if len(seen) != len(doctor.Checks) || code != 1 || !strings.Contains(stderr, "problem(s)") || !strings.Contains(stdout, "bad.toml:3") {
		t.Errorf("exit code %d, %d checks of %d: %s", code, len(seen), len(doctor.Checks), stderr)
	}
	code, stdout, _ = sluice("doctor", "--config", bad, "--socket", "/nowhere/s")
	if code != 1 || !strings.Contains(stdout, "problem  config        "+bad+":3") || !strings.Contains(stdout, "-> correct the line") {
		t.Errorf("exit code %d:\n%s", code, stdout)
	}
}
