package e2e_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/engine/api"
	"sluice/tools/e2e/testbed"
)

// build builds the program with another version.
func build(t *testing.T, version string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sluice-"+version)
	output, err := exec.Command("go", "build", "-ldflags", "-X main.version="+version, "-o", path, "sluice/cmd/sluice").CombinedOutput()
	if err != nil {
		t.Fatalf("go build: %v\n%s", err, output)
	}
	return path
}

// TestUpgrade: connections of all modes are busy, and the daemon is upgraded five times to another
// build, and back. All connections go on.
func TestUpgrade(t *testing.T) {
	b := bed(t)
	next := build(t, "9.9.9")
	d, err := b.Keep(ctxOf(t), config(t, testbed.Paths...))
	must(t, err)
	t.Cleanup(func() { finish(t, b, d) })
	var held []*testbed.Held
	for _, p := range testbed.Paths {
		held = append(held, hold(t, b, p.URL(), 2)...)
	}
	datagrams, err := b.Stream(ctxOf(t), nat4.UDP(), time.Millisecond)
	must(t, err)
	for round := range 5 {
		moves(t, held...)
		request := api.UpgradeRequest{Binary: next}
		if round%2 == 1 {
			request.Binary = b.Program()
		}
		former, err := d.Child()
		must(t, err)
		u, err := d.API.Upgrade(ctxOf(t), request)
		must(t, err)
		t.Log(&u)
		if u.From.PID != former.Pid || u.To.PID == former.Pid || u.To.Version == u.From.Version || u.Connections < len(held) || u.Lost > 0 {
			t.Errorf("upgrade %d: %+v, with %d connections, from process %d", round, u, len(held), former.Pid)
		}
		status, err := d.API.Status(ctxOf(t))
		must(t, err)
		if up := status.Upgrade; up == nil || up.To != u.To || up.From != u.From || status.Version != u.To.Version {
			t.Errorf("status of %s says %+v", status.Version, up)
		}
		if took := status.Takeover; took == nil || took.Queues != 2 {
			t.Errorf("status says that %+v was taken over, want both sockets", took)
		}
	}
	moves(t, held...)
	counts := datagrams.End()
	t.Logf("of %d datagrams %d were not answered; the longest time between two answers is %v",
		counts.Sent, counts.Sent-counts.Answered, counts.Longest)
	if out, err := d.Verb(ctxOf(t), "status"); err != nil || !strings.Contains(out, "upgraded from version") {
		t.Errorf("status: %v\n%s", err, out)
	}
}
