package e2e_test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/tools/e2e/testbed"
)

// TestSuspended: while the daemon is suspended, top says since when there is no data. An order of a
// client that gives up meanwhile is not carried out when the daemon goes on.
func TestSuspended(t *testing.T) {
	b := bed(t)
	cfg := config(t, nat4)
	d := start(t, b, cfg)
	screen := watchTop(t, d)
	awaitScreen(t, screen, "all 2 services up")

	must(t, d.Process.Signal(syscall.SIGSTOP))
	resume := func() { must(t, d.Process.Signal(syscall.SIGCONT)) }
	defer resume()
	awaitScreen(t, screen, `no data since \d\d:\d\d:\d\d`)

	backend := fmt.Sprintf("%s:%d", cfg.Services[0].Backends[0].Address, cfg.Services[0].Backends[0].Port)
	for _, order := range [][]string{{"weight", cfg.Services[0].Name, backend, "7"}, {"drain", cfg.Services[0].Name, backend}, {"reload"}} {
		impatient, cancel := context.WithTimeout(ctxOf(t), time.Second)
		if out, err := d.Verb(impatient, order...); err == nil {
			t.Errorf("%v was answered: %s", order, out)
		}
		cancel()
	}
	mark := d.Process.Mark()
	resume()
	awaitScreen(t, screen, "all 2 services up")
	services, err := d.API.List(ctxOf(t))
	must(t, err)
	if got := services[0].Backends[0]; got.Weight != 1 || got.State != "up" {
		t.Errorf("an order was carried out without its client: %+v", got)
	}
	if log := d.Process.Output()[mark:]; strings.Contains(log, "weight_set") || strings.Contains(log, "override_set") || strings.Contains(log, "config_") {
		t.Errorf("the log has an order without a client:\n%s", log)
	}
}

// watchTop runs top in a terminal until the test ends. screen returns what the terminal shows.
func watchTop(t *testing.T, d *testbed.Daemon) (screen func() (string, error)) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "tmux")
	tmux := func(args ...string) (string, error) {
		output, err := exec.Command("tmux", append([]string{"-S", socket, "-f", "/dev/null"}, args...)...).CombinedOutput()
		return string(output), err
	}
	output, err := tmux("new-session", "-d", "-x", "120", "-y", "30", sluice, "top", "--socket", d.Socket)
	if err != nil {
		t.Fatalf("tmux: %v: %s", err, output)
	}
	t.Cleanup(func() { _, _ = tmux("kill-server") })
	return func() (string, error) { return tmux("capture-pane", "-p") }
}

// awaitScreen waits until the terminal shows the pattern.
func awaitScreen(t *testing.T, screen func() (string, error), pattern string) {
	t.Helper()
	poll(t, "the screen shows "+pattern, func() error {
		text, err := screen()
		if err == nil && !regexp.MustCompile(pattern).MatchString(text) {
			err = fmt.Errorf("it shows:\n%s", text)
		}
		return err
	})
}
