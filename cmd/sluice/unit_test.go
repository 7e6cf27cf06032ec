package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnit: systemd understands every line of the unit, and nothing in it is loose. What it names
// is there: this program stands for the installed one.
func TestUnit(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		if os.Geteuid() != 0 {
			t.Skip("needs systemd-analyze")
		}
		t.Fatal("systemd-analyze is missing: apt-get install systemd")
	}
	unit, err := os.ReadFile("sluice.service")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "sluice.service")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(unit), "/usr/sbin/sluice", program)), 0o644); err != nil {
		t.Fatal(err)
	}
	verify := exec.Command("systemd-analyze", "verify", "--man=no", path)
	if output, err := verify.CombinedOutput(); err != nil || len(output) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, output)
	}
	// Exposure in tenths, as systemd reckons it: 2.5 today. A root service without any such line
	// has 96.
	security := exec.Command("systemd-analyze", "security", "--offline=yes", "--threshold=30", path)
	if output, err := security.CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, output)
	}
}
