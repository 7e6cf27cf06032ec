package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sluice/tools/e2e/testbed"
	"sluice/tools/netlab/backend"
	"sluice/tools/netlab/loadgen"
)

func TestMain(m *testing.M) {
	backend.RunIfChild()
	loadgen.RunIfChild()
	os.Exit(m.Run())
}

// TestSurvive is a short run with one event of each kind. What depends on the speed of the machine
// is not checked.
func TestSurvive(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes half a minute")
	}
	if os.Geteuid() != 0 {
		t.Skip("network namespaces and XDP need root")
	}
	sluice := filepath.Join(t.TempDir(), "sluice")
	if err := testbed.Build(sluice); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var out bytes.Buffer
	r := run{Options: Options{
		Name: "survive-test", Sluice: sluice, Connections: 160, PerS: 16, Workers: 1, Every: time.Second, Seed: 1, Out: &out,
		Events: map[string]int{"kill": 1, "stopped": 1},
	}}
	if err := r.all(ctx); err != nil {
		t.Error(err)
	}
	for _, row := range r.report.rows {
		if !row.ok && !row.timed {
			t.Errorf("%s: allowed %s, seen %s", row.what, row.allowed, row.seen)
		}
	}
	if t.Failed() {
		t.Logf("%s", &out)
		if r.daemon != nil {
			t.Logf("the daemon said:\n%s", r.daemon.Process.Output())
		}
	}
}
