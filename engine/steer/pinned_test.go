package steer_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/engine/steer"
)

// pinDir returns a directory in a BPF file system that does not exist yet.
func pinDir(t *testing.T) string {
	t.Helper()
	at := t.TempDir()
	if err := unix.Mount("bpf", at, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	return filepath.Join(at, "sluice")
}

// run attaches the program to an interface, with what an earlier process has left.
func run(t *testing.T, dir string, drop bool) (*steer.Program, *steer.Port) {
	t.Helper()
	program, err := steer.Load()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	holder, err := steer.Pin(dir, drop, nil)
	if err != nil {
		t.Fatal(err)
	}
	if holder != nil {
		program.Inherit(holder)
	}
	if drop {
		program.Leave()
	}
	port, err := program.Attach(loopback(t).Attrs().Index, steer.Generic)
	if err == nil {
		err = errors.Join(program.Hold(port), program.Set(testRules()))
	}
	if err != nil {
		t.Fatal(err)
	}
	return program, port
}

// TestPinned: a program that is pinned stays when its port is closed, and drops. The next one takes
// its place, and its counters; one without pins leaves nothing behind.
func TestPinned(t *testing.T) {
	enterNamespace(t)
	dir, lo := pinDir(t), loopback(t)
	service := packet(t, ip(client4, web4, pTCP), tcp(1234, 80))
	for round := range 3 {
		program, port := run(t, dir, round < 2)
		if got, err := port.Run(service); err != nil || got != drop {
			t.Fatalf("action %d: %v", got, err)
		}
		if c, err := port.Counters(); err != nil || c.NoSocket != uint64(round+1) {
			t.Errorf("round %d: counters %+v, %v", round, c, err)
		}
		if err := errors.Join(port.Close(), program.Close()); err != nil {
			t.Error(err)
		}
		if left := xdpOn(t, lo) != nil; left != (round < 2) || left != steer.Dropping("lo") {
			t.Errorf("round %d: a program is attached: %v, Dropping says %v", round, left, steer.Dropping("lo"))
		}
	}
	expectNoFiles(t, dir)
}

// TestRelease detaches what was left, and what a process has that runs it leaves alone.
func TestRelease(t *testing.T) {
	enterNamespace(t)
	dir := pinDir(t)
	program, port := run(t, dir, true)
	if _, err := steer.Release(dir, "lo"); !errors.As(err, new(*steer.BusyError)) || xdpOn(t, loopback(t)) == nil {
		t.Errorf("while it runs: %v", err)
	}
	if err := errors.Join(port.Close(), program.Close()); err != nil {
		t.Error(err)
	}
	for _, want := range []bool{true, false} {
		if found, err := steer.Release(dir, "lo"); err != nil || found != want {
			t.Errorf("found %v, want %v: %v", found, want, err)
		}
		if xdpOn(t, loopback(t)) != nil {
			t.Error("the program is still attached")
		}
	}
	expectNoFiles(t, dir)
}

// TestCanPin names what is missing.
func TestCanPin(t *testing.T) {
	enterNamespace(t)
	if err := steer.CanPin(pinDir(t)); err != nil {
		t.Error(err)
	}
	plain := t.TempDir()
	for _, dir := range []string{plain, filepath.Join(plain, "sluice"), filepath.Join(plain, "no", "sluice")} {
		if err := steer.CanPin(dir); err == nil || !strings.Contains(err.Error(), "mount -t bpf bpf "+filepath.Dir(dir)) {
			t.Errorf("%s: %v", dir, err)
		}
		if _, err := steer.Pin(dir, true, nil); err == nil {
			t.Errorf("%s: pinning there is no error", dir)
		}
	}
}

func expectNoFiles(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}
