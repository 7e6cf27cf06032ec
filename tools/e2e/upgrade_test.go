package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/engine/api"
	"sluice/tools/e2e/testbed"
)

// build builds the program with another version.
func build(t *testing.T, version string, link ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sluice-"+version)
	must(t, testbed.Build(path, "-ldflags", "-X main.version="+version+" "+strings.Join(link, " ")))
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
	held := holdAll(t, b, testbed.Paths, 2)
	datagrams, err := b.Stream(ctxOf(t), nat4.UDP(), time.Millisecond)
	must(t, err)
	for round := range 5 {
		moves(t, held...)
		program := next
		if round%2 == 1 {
			program = b.Program()
		}
		former, err := d.Child()
		must(t, err)
		u, err := d.Upgrade(ctxOf(t), program)
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

// script writes a program that answers `version`, and does something else when it is run.
func script(t *testing.T, run string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "script")
	text := "#!/bin/sh\nif [ \"$1\" = version ]; then echo '{\"version\": \"6.6.6\"}'; else " + run + "; fi\n"
	must(t, os.WriteFile(path, []byte(text), 0o755))
	return path
}

// TestUpgradeFails: programs that cannot run are refused with the reason, and the daemon goes on
// with its connections. Its file is broken meanwhile, but it is the configuration that runs which
// the next process gets.
func TestUpgradeFails(t *testing.T) {
	b := bed(t)
	d, err := b.Keep(ctxOf(t), config(t, nat4))
	must(t, err)
	t.Cleanup(func() { finish(t, b, d) })
	held := hold(t, b, nat4.URL(), 2)
	child, err := d.Child()
	must(t, err)
	open := script(t, "exit 0")
	must(t, os.Chmod(open, 0o757))
	for _, c := range []struct{ binary, says string }{
		{"/nowhere/sluice", "does not exist"},
		{"bin/sluice", "absolute"},
		{"/etc/passwd", "cannot be executed"},
		{"/bin/false", "`/bin/false version` fails"},
		{"/bin/echo", "does not answer like sluice"},
		{open, "may be written by all users"},
		{script(t, "exit 7"), "exit status 7"},
		{script(t, "kill -SEGV $$"), "segmentation fault"},
		{script(t, "exec sleep 60"), "not prepared in time"},
	} {
		r, err := b.Run(ctxOf(t), "upgrade", "--socket", d.Socket, "--binary", c.binary, "--timeout", "2s")
		must(t, err)
		if r.Code != 1 || !strings.Contains(r.Stderr, c.says) {
			t.Errorf("upgrade to %s: exit status %d, want 1 and %q: %s", c.binary, r.Code, c.says, r.Stderr)
		}
		moves(t, held...)
	}
	must(t, os.WriteFile(d.Config, []byte("nonsense\n"), 0o600))
	out, err := d.Verb(ctxOf(t), "upgrade")
	must(t, err)
	t.Log(out)
	moves(t, held...)
	status, err := d.API.Status(ctxOf(t))
	must(t, err)
	if status.Upgrade == nil || status.Upgrade.From.PID != child.Pid || !status.Config.FileDiffers || status.Config.Services == 0 {
		t.Errorf("status after the upgrade is %+v", status)
	}
}

// copied returns another file with the program.
func copied(t *testing.T, program string) string {
	t.Helper()
	text, err := os.ReadFile(program)
	must(t, err)
	path := filepath.Join(t.TempDir(), "sluice")
	must(t, os.WriteFile(path, text, 0o755))
	return path
}

// TestUpgradeIsUndone: the new process ends twice soon after the upgrade. At first the keeper
// starts its executable again, then the former one.
func TestUpgradeIsUndone(t *testing.T) {
	b := bed(t)
	next := copied(t, b.Program())
	d, err := b.Keep(ctxOf(t), config(t, nat4))
	must(t, err)
	t.Cleanup(func() { finish(t, b, d) })
	held := hold(t, b, nat4.URL(), 2)
	u, err := d.Upgrade(ctxOf(t), next)
	must(t, err)
	child, err := os.FindProcess(u.To.PID)
	must(t, err)
	for _, program := range []string{next, b.Program()} {
		mark := d.Process.Mark()
		must(t, child.Kill())
		_, err = d.Process.WaitLineAfter(ctxOf(t), mark, "event=ready")
		must(t, err)
		child, err = d.Child()
		must(t, err)
		if runs, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", child.Pid)); err != nil || runs != program {
			t.Errorf("%s runs after the end of the new process, want %s: %v", runs, program, err)
		}
		moves(t, held...)
	}
	if !strings.Contains(d.Process.Output(), "event=keep_former") {
		t.Error("the keeper does not say that it went back")
	}
}

// TestUpgradeOfTables: the next build has other connection tables, which cannot be read by the one
// before, nor the other way round. All connections go on; after a kill they would not.
func TestUpgradeOfTables(t *testing.T) {
	b := bed(t)
	next := build(t, "9.9.9", "-X sluice/engine/takeover.layoutSuffix=other")
	d, err := b.Keep(ctxOf(t), config(t, testbed.AllPaths...))
	must(t, err)
	t.Cleanup(func() { finish(t, b, d) })
	held := holdAll(t, b, testbed.AllPaths, 2)
	for _, program := range []string{next, b.Program()} {
		moves(t, held...)
		u, err := d.API.Upgrade(ctxOf(t), api.UpgradeRequest{Binary: program})
		must(t, err)
		t.Log(&u)
		if u.Connections < len(held) || u.Lost > 0 {
			t.Errorf("%+v, with %d connections", u, len(held))
		}
		status, err := d.API.Status(ctxOf(t))
		must(t, err)
		if took := status.Takeover; took == nil || took.Queues != 2 || took.Error != "" || took.ConnectionsError != "" {
			t.Errorf("status says that %+v was taken over, want both sockets", took)
		}
	}
	moves(t, held...)
}
