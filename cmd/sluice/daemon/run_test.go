package daemon

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/conf"
	"sluice/engine/api"
	"sluice/engine/api/apitest"
)

// life is a daemon under test: a runner with the engine, signals and file of the test.
type life struct {
	*runner
	t       *testing.T
	engine  *apitest.Fake
	log     *buffer
	signals chan os.Signal
	exits   chan int
	ended   chan error
}

// newLife makes a daemon that has not started yet.
func newLife(t *testing.T) *life {
	t.Helper()
	l := &life{t: t, engine: apitest.NewFake(), log: new(buffer), signals: make(chan os.Signal, 8), exits: make(chan int, 1), ended: make(chan error, 1)}
	l.runner = &runner{
		configPath: "lab.toml",
		socket:     filepath.Join(t.TempDir(), "s.sock"),
		logger:     slog.New(slog.NewTextHandler(l.log, nil)),
		privileges: func() error { return nil },
		load: func(string) (*conf.Config, []conf.Problem, error) {
			return &conf.Config{Services: make([]conf.Service, 2)}, []conf.Problem{{File: "lab.toml", Line: 3, Text: "doubtful"}}, nil
		},
		start: func(context.Context, *conf.Config, string, string, *slog.Logger) (balancer, error) {
			return l.engine, nil
		},
		signals: l.signals,
		exit:    func(code int) { l.exits <- code },

		stopTimeout: time.Minute,
	}
	t.Cleanup(func() { close(l.signals) })
	return l
}

// client returns a client of the daemon.
func (l *life) client() *api.Client { return api.NewClient(l.socket) }

func (l *life) begin() { go func() { l.ended <- l.run(context.Background()) }() }

// until waits for an event, and fails the test when it does not come.
func (l *life) until(what string, happened func() bool) {
	l.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !happened(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("timeout: %s; log:\n%s", what, l.log)
		}
	}
}

func (l *life) untilLogged(text string) {
	l.t.Helper()
	l.until("the log has no "+text, func() bool { return strings.Contains(l.log.String(), text) })
}

// end waits for the daemon to stop and gives its error.
func (l *life) end() error {
	l.t.Helper()
	select {
	case err := <-l.ended:
		return err
	case <-time.After(10 * time.Second):
		l.t.Fatalf("the daemon does not stop; log:\n%s", l.log)
		return nil
	}
}

// buffer is a log that may be read while it is written.
type buffer struct {
	mu    sync.Mutex
	bytes bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bytes.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bytes.String()
}

func TestRunLivesAndStops(t *testing.T) {
	l := newLife(t)
	l.begin()
	l.untilLogged("ready")
	if services, err := l.client().List(t.Context()); err != nil || len(services) != 2 || services[0].Address != "198.51.100.10" {
		t.Error("a daemon that is ready does not answer:", services, err)
	}
	l.signals <- syscall.SIGTERM
	if err := l.end(); err != nil {
		t.Error("a stop that was asked for is no error:", err)
	}
	if l.engine.Calls() != "close" {
		t.Error("the engine was not closed")
	}
	if _, err := os.Lstat(l.socket); !errors.Is(err, os.ErrNotExist) {
		t.Error("the socket is still there")
	}
	lines := 0
	for line := range strings.Lines(l.log.String()) {
		if strings.Contains(line, "ready") {
			lines++
			if !strings.Contains(line, "ports=eth0:zerocopy,eth1:generic") {
				t.Error("the line does not name the ports and their modes:", line)
			}
		}
	}
	if lines != 1 {
		t.Errorf("%d lines say ready, not 1:\n%s", lines, l.log)
	}
	if !strings.Contains(l.log.String(), "lab.toml:3: doubtful") {
		t.Error("the warning of the configuration is not in the log")
	}
}

func TestRunReloads(t *testing.T) {
	l := newLife(t)
	l.engine.ReloadResult = api.ReloadResult{Changes: []string{"backend 10.0.0.14 added"}}
	l.begin()
	l.untilLogged("ready")
	l.signals <- syscall.SIGHUP
	l.untilLogged("backend 10.0.0.14 added")
	l.untilLogged("msg=reloaded")
	if _, err := l.client().SetWeight(t.Context(), "web", "10.0.0.11:8080", 5); err != nil {
		t.Error(err)
	}
	l.untilLogged(`msg="weight set" event=weight_set service=web backend=10.0.0.11:8080 weight=5`)
	l.signals <- syscall.SIGINT
	if err := l.end(); err != nil {
		t.Error(err)
	}
}

func TestRunSurvivesABadFile(t *testing.T) {
	l := newLife(t)
	l.engine.Err = errors.Join(errors.New("lab.toml:3: port 70000"), errors.New("lab.toml:9: weight -1"))
	l.begin()
	l.untilLogged("ready")
	l.signals <- syscall.SIGHUP
	l.untilLogged("reload failed, nothing changed")
	for _, line := range []string{`level=ERROR msg="reload: lab.toml:3: port 70000"`, `level=ERROR msg="reload: lab.toml:9: weight -1"`} {
		if !strings.Contains(l.log.String(), line) {
			t.Errorf("%s is missing in the log:\n%s", line, l.log)
		}
	}
	l.signals <- syscall.SIGTERM
	if err := l.end(); err != nil {
		t.Error(err)
	}
}

func TestRunRefusesASecondDaemon(t *testing.T) {
	l := newLife(t)
	_, l.socket = apitest.Serve(t, apitest.NewFake())
	l.start = func(context.Context, *conf.Config, string, string, *slog.Logger) (balancer, error) {
		t.Error("the engine was started beside that of another daemon")
		return nil, errors.New("refused")
	}
	l.begin()
	if err := l.end(); err == nil || !strings.Contains(err.Error(), "another sluice answers on "+l.socket) {
		t.Error(err)
	}
	if _, err := l.client().List(t.Context()); err != nil {
		t.Error("the first daemon was disturbed:", err)
	}
}

func TestRunFailsForAReason(t *testing.T) {
	broken := errors.New("broken")
	for name, spoil := range map[string]func(*life){
		"file": func(l *life) {
			l.load = func(string) (*conf.Config, []conf.Problem, error) { return nil, nil, broken }
		},
		"privileges": func(l *life) { l.privileges = func() error { return broken } },
		"engine": func(l *life) {
			l.start = func(context.Context, *conf.Config, string, string, *slog.Logger) (balancer, error) {
				return nil, broken
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLife(t)
			spoil(l)
			l.begin()
			if err := l.end(); !errors.Is(err, broken) {
				t.Error(err)
			}
			if _, err := os.Lstat(l.socket); !errors.Is(err, os.ErrNotExist) {
				t.Error("a daemon that never ran left its socket behind")
			}
			if strings.Contains(l.log.String(), "ready") {
				t.Error("a daemon that never ran said that it was ready")
			}
		})
	}
}

func TestRunEndsWithItsEngine(t *testing.T) {
	l := newLife(t)
	l.begin()
	l.untilLogged("ready")
	close(l.engine.Ended)
	if err := l.end(); err == nil || !strings.Contains(err.Error(), "the engine stopped by itself") {
		t.Error(err)
	}
	if l.engine.Calls() != "close" {
		t.Error("the engine was not closed")
	}
}

// TestRunEndsStuck checks that a worker that hangs ends the process at once, with a status and a
// reason of its own.
func TestRunEndsStuck(t *testing.T) {
	l := newLife(t)
	l.engine.StuckWorker = errors.New("worker 1 has not run")
	l.begin()
	l.untilLogged("ready")
	close(l.engine.Ended)
	if code := <-l.exits; code != 3 {
		t.Errorf("exit status %d", code)
	}
	l.untilLogged("event=stuck_end")
	l.untilLogged("restarted_by=\"nothing: ")
	if err := l.end(); err == nil || !strings.Contains(err.Error(), "worker 1 has not run") {
		t.Error(err)
	}
}

func TestRunCanBeStoppedWhileItStarts(t *testing.T) {
	l := newLife(t)
	starting := make(chan struct{})
	l.start = func(ctx context.Context, _ *conf.Config, _, _ string, _ *slog.Logger) (balancer, error) {
		close(starting)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	l.begin()
	<-starting
	l.signals <- syscall.SIGTERM
	if err := l.end(); err != nil {
		t.Error(err)
	}
}

func TestSecondSignalForcesExit(t *testing.T) {
	l := newLife(t)
	stuck := &stuckFake{Fake: l.engine, closing: make(chan struct{}), free: make(chan struct{})}
	l.start = func(context.Context, *conf.Config, string, string, *slog.Logger) (balancer, error) { return stuck, nil }
	l.begin()
	l.untilLogged("ready")
	l.signals <- syscall.SIGTERM
	<-stuck.closing
	l.signals <- syscall.SIGTERM
	if code := <-l.exits; code != 1 {
		t.Error("exit code", code)
	}
	close(stuck.free)
	l.end()
}

// TestStopHasAnEnd: a stop ends although the engine hangs, without a second signal, also while a
// reload hangs that a signal has asked for.
func TestStopHasAnEnd(t *testing.T) {
	l := newLife(t)
	l.stopTimeout = time.Millisecond
	stuck := &stuckFake{Fake: l.engine, closing: make(chan struct{}), free: make(chan struct{}), reloading: make(chan struct{})}
	l.start = func(context.Context, *conf.Config, string, string, *slog.Logger) (balancer, error) { return stuck, nil }
	l.begin()
	l.untilLogged("ready")
	l.signals <- syscall.SIGHUP
	<-stuck.reloading
	l.signals <- syscall.SIGTERM
	if code := <-l.exits; code != 1 {
		t.Error("exit code", code)
	}
	if !strings.Contains(l.log.String(), "the stop takes too long") {
		t.Errorf("the log is silent:\n%s", l.log)
	}
	close(stuck.free)
	l.end()
}

// stuckFake is an engine that does not close, nor reload, until it is freed.
type stuckFake struct {
	*apitest.Fake
	closing, reloading, free chan struct{}
}

func (s *stuckFake) Reload(context.Context, api.ReloadOptions) (api.ReloadResult, error) {
	close(s.reloading)
	<-s.free
	return api.ReloadResult{}, nil
}

func (s *stuckFake) Close() error {
	close(s.closing)
	<-s.free
	return nil
}

// withStatus is a fake that answers Status.
type withStatus struct{ *apitest.Fake }

func (withStatus) Status(context.Context) (api.Status, error) {
	return api.Status{Reload: api.ReloadStatus{OK: true}}, nil
}

// TestRunOpensHTTP: a daemon runs while the address of [api] http is in use, and opens it later.
func TestRunOpensHTTP(t *testing.T) {
	if testing.Short() {
		t.Skip("an address in use is tried again after 5 s")
	}
	rival := apitest.Listen(t)
	defer rival.Close()
	address := rival.Addr().String()
	l := newLife(t)
	l.load = func(string) (*conf.Config, []conf.Problem, error) {
		return &conf.Config{API: conf.API{HTTP: address}}, nil, nil
	}
	l.start = func(context.Context, *conf.Config, string, string, *slog.Logger) (balancer, error) {
		return withStatus{l.engine}, nil
	}
	l.begin()
	l.untilLogged("ready")
	if status, err := l.client().Status(t.Context()); err != nil || status.HTTP != address || status.HTTPErr == "" || len(status.Attention) != 1 {
		t.Errorf("%+v, %v", status, err)
	}
	rival.Close()
	l.untilLogged("http_open")
	if status, err := l.client().Status(t.Context()); err != nil || status.HTTP != address || status.HTTPErr != "" || len(status.Attention) != 0 {
		t.Errorf("%+v, %v", status, err)
	}
	l.signals <- syscall.SIGTERM
	if err := l.end(); err != nil {
		t.Error(err)
	}
}

func TestPrivileges(t *testing.T) {
	for _, c := range []struct{ effective, says string }{
		{"000001ffffffffff", ""},
		{"0000008000003000", ""},
		{"0000000000203000", ""}, // CAP_SYS_ADMIN for CAP_BPF
		{"0000000000000000", "CAP_NET_ADMIN (to attach XDP programs), CAP_NET_RAW (to open AF_XDP sockets), CAP_BPF"},
		{"0000008000001000", "does not have: CAP_NET_RAW (to open AF_XDP sockets)"},
		{"nonsense", "no CapEff line"},
	} {
		err := privilegesIn("Name:\tsluice\nCapPrm:\t0\nCapEff:\t" + c.effective + "\nCapBnd:\t0\n")
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.effective, err)
		}
	}
	if err := privilegesIn(""); err == nil {
		t.Error("no CapEff line is no error")
	}
}
