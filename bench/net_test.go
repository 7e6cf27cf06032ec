package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"sluice/bench/compare"
	"sluice/bench/loops"
)

func TestMain(m *testing.M) {
	loops.RunIfChild()
	os.Exit(m.Run())
}

// TestNetRunsEveryExperiment runs all that `make bench-net` does, in the smallest size, and checks
// the files that it writes.
func TestNetRunsEveryExperiment(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, because it makes network namespaces")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "sluice")
	if out, err := exec.Command("go", "build", "-o", program, "../cmd/sluice").CombinedOutput(); err != nil {
		t.Fatalf("building sluice: %v\n%s", err, out)
	}
	path := filepath.Join(dir, "out", "net.json")
	err := compareAll(compare.Settings{
		Program: program, Rounds: 1, Window: 50 * time.Millisecond, Small: true, Install: false,
	}, path)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Machine map[string]any   `json:"machine"`
		Results []map[string]any `json:"results"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"cpu", "cores", "kernel", "nic", "af_xdp", "commit", "command"} {
		if file.Machine[key] == nil || file.Machine[key] == "" {
			t.Errorf("machine has no %s", key)
		}
	}
	checkRows(t, file.Results)
	for _, name := range []string{"net.md", "net-capacity.svg", "net-latency.svg", "net-connections.svg"} {
		if info, err := os.Stat(filepath.Join(dir, "out", name)); err != nil || info.Size() == 0 {
			t.Errorf("%s wasn't written: %v", name, err)
		}
	}
}

// checkRows requires figures or a reason in every row, and rows for every experiment. The figures
// themselves mean nothing here.
func checkRows(t *testing.T, rows []map[string]any) {
	t.Helper()
	seen := map[any]bool{}
	experiments := map[any]bool{}
	for _, r := range rows {
		if seen[r["name"]] {
			t.Errorf("there are two rows %v", r["name"])
		}
		seen[r["name"]], experiments[r["experiment"]] = true, true
		figures := r["mpps"] != nil || r["cps"] != nil || r["gbps"] != nil
		if (r["skipped"] == nil) != figures {
			t.Errorf("row %v has neither figures nor a reason, or both: %v", r["name"], r)
		}
	}
	for _, name := range append(compare.Names(), "bulk") {
		if !experiments[name] {
			t.Errorf("experiment %s has no rows", name)
		}
	}
	for _, name := range []string{
		"capacity/empty/empty", "capacity/sluice/nat", "capacity/sluice/tun", "capacity/sluice/dr", "capacity/sluice/fullnat",
		"capacity/l2fwd/l2fwd", "capacity/forward/forward", "capacity/nftables/nftables", "capacity/ipvs/ipvs",
		"connections/haproxy/haproxy", "connections/nftables/nftables", "connections/sluice/nat",
	} {
		if !seen[name] {
			t.Errorf("there is no row %s", name)
		}
	}
}
