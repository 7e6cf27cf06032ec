package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/engine/api"
	"sluice/tools/e2e/testbed"
)

// TestSuspended: while the daemon is suspended, top says since when there is no data, and every
// other verb ends, a trace that has begun too, and says that the daemon is stopped. Orders given
// meanwhile are not carried out when the daemon goes on; a drain that is waited for goes on.
func TestSuspended(t *testing.T) {
	b := bed(t)
	cfg := config(t, nat4)
	d := start(t, b, cfg)
	screen := watchTop(t, d)
	awaitScreen(t, screen, "backends 6/6 up")
	name := cfg.Services[0].Name
	for range testbed.Backends { // the turn comes to each
		c, err := b.Client.Dial(ctxOf(t), "tcp", web(nat4))
		must(t, err)
		defer c.Close()
	}
	first, last := endpoint(cfg.Services[0].Backends[0]), endpoint(cfg.Services[0].Backends[2])
	waited := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 2*waitLimit)
	defer cancel()
	go func() {
		_, err := d.Verb(ctx, "drain", name, last, "--wait")
		waited <- err
	}()
	poll(t, "the drain begins", func() error {
		services, err := d.API.List(ctxOf(t))
		if err == nil && services[0].Backends[2].State != api.StateDrain {
			err = errors.New("it has not")
		}
		return err
	})

	awaitScreen(t, screen, `\b1/\d+ drain`)

	tracing, err := b.Balancer.Start(exec.Command(sluice, "trace", "--socket", d.Socket))
	must(t, err)
	_, err = tracing.WaitLine(ctxOf(t), "tracing")
	must(t, err)
	must(t, d.Process.Signal(syscall.SIGSTOP))
	resume := func() { must(t, d.Process.Signal(syscall.SIGCONT)) }
	defer resume()
	stopped := time.Now()
	var asking sync.WaitGroup
	for _, verb := range [][]string{{"list"}, {"stats"}, {"status"}, {"explain", "tcp", nat4.Client().String(), web(nat4)}, {"trace"},
		{"weight", name, first, "7"}, {"drain", name, first}, {"reload"}} {
		asking.Go(func() {
			r, err := b.Run(ctxOf(t), append(verb, "--socket", d.Socket)...)
			t.Logf("%v: %v after the daemon was stopped", verb, time.Since(stopped).Round(time.Millisecond))
			if err != nil || r.Code != 1 || !strings.Contains(r.Stderr, "is stopped by a signal") {
				t.Errorf("%v: exit code %d, %v: %s", verb, r.Code, err, r.Stderr)
			}
		})
	}
	awaitScreen(t, screen, `no data since \d\d:\d\d:\d\d`)
	t.Logf("top: %v after the daemon was stopped", time.Since(stopped).Round(time.Millisecond))
	asking.Wait()
	if err := tracing.Wait(); err == nil || !strings.Contains(tracing.Output(), "is stopped by a signal") {
		t.Errorf("a trace that had begun: %v: %s", err, tracing.Output())
	}

	mark := d.Process.Mark()
	resume()
	awaitScreen(t, screen, `\b1/\d+ drain`)
	services, err := d.API.List(ctxOf(t))
	must(t, err)
	if got := services[0].Backends[0]; got.Weight != 1 || got.State != "up" {
		t.Errorf("an order was carried out without its client: %+v", got)
	}
	if log := d.Process.Output()[mark:]; strings.Contains(log, "weight_set") || strings.Contains(log, "override_set") || strings.Contains(log, "config_") {
		t.Errorf("the log has an order without a client:\n%s", log)
	}
	select {
	case err := <-waited:
		t.Fatal("the drain has ended, with a connection:", err)
	default:
	}
	_, err = d.Verb(ctxOf(t), "enable", name, last)
	must(t, err)
	if err := <-waited; err == nil || !strings.Contains(err.Error(), "was ended by another command") {
		t.Error("the drain that was waited for:", err)
	}
}

// endpoint returns the address and port of a backend.
func endpoint(s testbed.Server) string { return net.JoinHostPort(s.Address, fmt.Sprint(s.Port)) }

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
