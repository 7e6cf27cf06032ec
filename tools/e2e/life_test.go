package e2e_test

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"sluice/tools/e2e/testbed"
)

// TestStop: SIGTERM removes everything: the XDP programs, the socket, the process.
func TestStop(t *testing.T) {
	b := bed(t)
	d := start(t, b, config(t, testbed.Paths...))
	loaded, err := b.XDP()
	must(t, err)
	if len(loaded) != 2 {
		t.Fatalf("while it runs there are the XDP programs %v, want one per port", loaded)
	}
	wantSpread(t, b.Ask(ctxOf(t), nat4.URL(), 6), [3]int{2, 2, 2})
	must(t, d.Stop())
	must(t, b.AwaitNoXDP(ctxOf(t), loaded))
	if _, err := os.Stat(d.Socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the control socket is left behind: %v", err)
	}
	for _, line := range strings.Split(d.Process.Output(), "\n") {
		if strings.Contains(line, "level=ERROR") || strings.Contains(line, "level=WARN") {
			t.Error("an uneventful run logged:", line)
		}
	}
}

// TestKilled: after SIGKILL the kernel removes the XDP programs, and a new daemon starts from the
// same file, on the same socket, and works.
func TestKilled(t *testing.T) {
	b := bed(t)
	d := start(t, b, config(t, testbed.Paths...))
	for range 3 {
		loaded, err := b.XDP()
		must(t, err)
		wantSpread(t, b.Ask(ctxOf(t), nat4.URL(), 6), [3]int{2, 2, 2})
		must(t, d.Process.Kill())
		must(t, b.AwaitNoXDP(ctxOf(t), loaded))
		must(t, d.Restart(ctxOf(t)))
	}
	for _, p := range testbed.Paths {
		wantSpread(t, b.Ask(ctxOf(t), p.URL(), 6), [3]int{2, 2, 2})
	}
}

// TestSecondDaemon: a second daemon for the same ports is refused, and the first one continues.
func TestSecondDaemon(t *testing.T) {
	b := bed(t)
	start(t, b, config(t, nat4))
	held := hold(t, b, nat4.URL(), 3)
	second, err := b.Launch(config(t, dr4))
	must(t, err)
	select {
	case <-second.Process.Ended():
	case <-ctxOf(t).Done():
		t.Fatal("the second daemon runs")
	}
	if said := second.Process.Output(); !strings.Contains(said, testbed.Front) {
		t.Errorf("the second daemon doesn't say which port it could not have:\n%s", said)
	}
	moves(t, held...)
}
