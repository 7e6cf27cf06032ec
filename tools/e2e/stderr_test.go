package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/tools/e2e/testbed"
)

// launchTo starts a daemon that logs to a file of the test, and waits until it answers.
func launchTo(t *testing.T, b *testbed.Bed, cfg testbed.Config, stderr *os.File) *testbed.Daemon {
	t.Helper()
	d, err := b.LaunchTo(cfg, stderr)
	must(t, err)
	t.Cleanup(func() { must(t, d.Process.Kill()) })
	poll(t, "the daemon answers", func() error {
		_, err := d.API.Status(ctxOf(t))
		return err
	})
	return d
}

// smallPipe returns a pipe that holds a page.
func smallPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	must(t, err)
	t.Cleanup(func() { r.Close() })
	_, err = unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, os.Getpagesize())
	must(t, err)
	return r, w
}

// fill makes the daemon log more than a small pipe holds.
func fill(t *testing.T, d *testbed.Daemon, cfg testbed.Config) {
	t.Helper()
	for i := range 60 {
		cfg.Services[0].Scheduler = []string{"rr", "lc"}[i%2]
		for j := range cfg.Services {
			cfg.Services[j].Persistence = fmt.Sprintf("%ds", 60+i)
		}
		must(t, d.Write(cfg))
		_, err := d.Verb(ctxOf(t), "reload")
		must(t, err)
	}
}

// TestStderrWithoutReader: when its stderr is a pipe that is full, the daemon answers every verb,
// takes dead backends out, and stops at SIGTERM.
func TestStderrWithoutReader(t *testing.T) {
	b := bed(t)
	_, w := smallPipe(t)
	cfg := config(t, nat4)
	cfg.Services[0].Health = map[string]any{"type": "tcp", "interval": "200ms", "timeout": "200ms"}
	d := launchTo(t, b, cfg, w)
	must(t, w.Close())
	fill(t, d, cfg)

	web := cfg.Services[0].Name
	first := fmt.Sprintf("%s:%d", cfg.Services[0].Backends[0].Address, cfg.Services[0].Backends[0].Port)
	for _, args := range [][]string{{"list"}, {"stats"}, {"conns"}, {"status"}, {"health"}, {"overrides"}, {"top", "--once"},
		{"drain", web, first}, {"enable", web, first}, {"weight", web, first, "2"}, {"reload"}} {
		_, err := d.Verb(ctxOf(t), args...)
		must(t, err)
	}
	must(t, b.Backends[0].Kill())
	defer func() { must(t, b.Backends[0].Start(ctxOf(t))) }()
	poll(t, "the dead backend is down", func() error {
		services, err := d.API.List(ctxOf(t))
		if err == nil && services[0].Backends[0].State != "down" {
			err = fmt.Errorf("its state is %s", services[0].Backends[0].State)
		}
		return err
	})

	must(t, d.Process.Signal(syscall.SIGTERM))
	select {
	case <-d.Process.Ended():
		must(t, d.Process.Wait())
	case <-ctxOf(t).Done():
		t.Fatal("the daemon does not stop")
	}
}

// TestStderrReadLate: when a full pipe is read again, no line that waited is lost.
func TestStderrReadLate(t *testing.T) {
	b := bed(t)
	r, w := smallPipe(t)
	cfg := config(t, nat4)
	d := launchTo(t, b, cfg, w)
	must(t, w.Close())
	fill(t, d, cfg)
	read := make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(r) // the pipe ends with the daemon
		read <- string(text)
	}()
	must(t, d.Stop())
	if text := <-read; !strings.Contains(text, "event=stopped") {
		t.Errorf("%d bytes were read, the last of them %.300s", len(text), text[max(0, len(text)-300):])
	}
}

// TestStderrClosed: the daemon survives that its stderr is a pipe without a reading end, and counts
// the lines.
func TestStderrClosed(t *testing.T) {
	b := bed(t)
	r, w, err := os.Pipe()
	must(t, err)
	d := launchTo(t, b, config(t, nat4), w)
	must(t, w.Close())
	must(t, r.Close())
	_, err = d.Verb(ctxOf(t), "reload")
	must(t, err)
	poll(t, "dropped lines are counted", func() error {
		metrics, err := get(d, "/metrics")
		if _, after, counted := strings.Cut(metrics, "\nsluice_log_dropped_total "); err == nil && (!counted || strings.HasPrefix(after, "0\n")) {
			err = fmt.Errorf("none are in the metrics: %.30s", after)
		}
		return err
	})
	must(t, d.Stop())
}

// get returns what the daemon answers on a path of its control socket.
func get(d *testbed.Daemon, path string) (string, error) {
	client := http.Client{Timeout: waitLimit, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", d.Socket)
		},
	}}
	response, err := client.Get("http://sluice" + path)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return string(text), err
}
