package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sluice/engine/cpu"
	"sluice/tools/e2e/testbed"
	"sluice/tools/netlab/backend"
)

func TestMain(m *testing.M) {
	runIfChild()
	backend.RunIfChild()
	os.Exit(m.Run())
}

// TestSoak is a short soak: every kind of reload comes once, and two or three deaths.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a minute")
	}
	if os.Geteuid() != 0 {
		t.Skip("network namespaces and XDP need root")
	}
	if allowed, err := cpu.Allowed(); err != nil || len(allowed) < 2 {
		t.Skipf("two workers need two CPUs: %v, %v", allowed, err)
	}
	sluice := filepath.Join(t.TempDir(), "sluice")
	if err := testbed.Build(sluice); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var out bytes.Buffer
	s := soak{Options: Options{
		Name: "soak-test", Sluice: sluice, Time: 24 * time.Second, Rate: 80, Loss: 10, Reload: 3 * time.Second, Death: 8 * time.Second,
		Timeout: 30 * time.Second, Seed: 1, Out: &out,
	}}
	if err := s.run(ctx); err != nil {
		t.Error(err)
	}
	if len(s.wrong) > 0 || s.totals.Opened < 1000 || s.reloads < 5 || len(s.timeline.deaths) < 2 {
		t.Errorf("%d connections, %d reloads, %d deaths; wrong: %q", s.totals.Opened, s.reloads, len(s.timeline.deaths), s.wrong)
	}
	if t.Failed() {
		t.Logf("%s", &out)
		if s.daemon != nil {
			t.Logf("the daemon said:\n%s", s.daemon.Process.Output())
		}
	}
}
