package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sluice/conf"
	"sluice/engine/api"
	"sluice/engine/cpu"
	"sluice/engine/estate"
)

// # Upgrade
//
// The daemon starts the new program as its child, with its own arguments, and the text of the
// configuration that runs (package estate has the protocol). The child prepares beside it. Then the
// workers stop, and the child gets what is stored, the listeners of the API, and this process's
// word. What the child does is what a daemon does after a kill. Then this process ends.
//
// A child that fails before the word changes nothing. One that fails after it is started again by
// the holder, which has taken it for the main process: this process ends with exitSuccessor.

// exitSuccessor is the exit status of a process if its successor failed after it had begun.
const exitSuccessor = 4

// Bounds of an upgrade.
const (
	versionTimeout = 10 * time.Second // for the new program to say its version
	readyTimeout   = time.Minute      // from the word to a successor that runs
)

// upgrade implements api.Upgrader.
func (r *runner) upgrade(ctx context.Context, q api.UpgradeRequest) (u api.Upgrade, err error) {
	if !r.upgrading.TryLock() {
		return u, errors.New("another upgrade is under way")
	}
	defer r.upgrading.Unlock()
	u, err = r.replace(ctx, q)
	if err != nil {
		r.logger.Error("upgrade failed, this daemon goes on", "event", "upgrade_failed", "error", err)
		return u, err
	}
	r.logger.Info(u.String(), "event", "upgraded", "connections", u.Connections, "gap", gap(u))
	return u, nil
}

func gap(u api.Upgrade) time.Duration {
	return time.Duration(u.GapS * float64(time.Second)).Round(100 * time.Microsecond)
}

// replace has a new process take the place of this one.
func (r *runner) replace(ctx context.Context, q api.UpgradeRequest) (u api.Upgrade, err error) {
	if r.store == nil || !r.store.HasHolder() {
		return u, errors.New("nothing holds what must outlive this process: run the daemon under systemd or sluice keep, or restart it")
	}
	path, version, err := examine(ctx, q.Binary)
	if err != nil {
		return u, err
	}
	u.From = api.Process{Version: r.version, PID: os.Getpid()}
	var s *estate.Successor
	word := &estate.Word{Version: r.version, PID: os.Getpid()}
	prepare := func(config string) (layout string, err error) {
		r.logger.Info("upgrade: the new process prepares", "event", "upgrade", "binary", path, "version", version)
		if s, err = estate.Start(path, os.Args[1:], config, cpu.Unpin); err != nil {
			return "", err
		}
		preparing, cancel := context.WithTimeout(ctx, q.Timeout())
		defer cancel()
		go func() {
			select {
			case <-r.stopping:
				cancel()
			case <-preparing.Done():
			}
		}()
		return s.AwaitPrepared(preparing)
	}
	err = r.engine.Succeed(ctx, prepare, func() error {
		word.StoppedNs = estate.Monotonic()
		return r.give(s, word)
	})
	if err != nil {
		if s != nil {
			s.End()
		}
		return u, err
	}
	ready := r.awaitSuccessor(s)
	u.To = api.Process{Version: ready.Version, PID: s.PID()}
	u.Connections, u.Lost, u.GapS = ready.Connections, ready.Lost, word.Gap(ready.StartedNs).Seconds()
	close(r.succeeded)
	return u, nil
}

// give gives the successor everything.
func (r *runner) give(s *estate.Successor, word *estate.Word) error {
	select {
	case <-r.stopping:
		return errors.New("the daemon is being stopped")
	default:
	}
	listeners, err := r.server.Listeners()
	defer func() {
		for _, fd := range listeners {
			unix.Close(fd)
		}
	}()
	if err != nil {
		return err
	}
	if err := s.Give(r.store, listeners, word); err != nil {
		return err
	}
	r.server.Leave()
	return nil
}

// awaitSuccessor waits until the successor runs. If it fails, this process ends: only the holder
// can start another one.
func (r *runner) awaitSuccessor(s *estate.Successor) *estate.Ready {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	ready, err := s.AwaitReady(ctx)
	if err != nil {
		r.logger.Error("the new process failed after it had taken over", "event", "upgrade_failed", "error", err, "restarted_by", restarter())
		s.End()
		r.exit(exitSuccessor)
		return new(estate.Ready) // only in tests
	}
	return ready
}

// examine returns the path of the new program, by default that of this one, and its version. The
// error says why it cannot be one.
func examine(ctx context.Context, binary string) (path, version string, err error) {
	if path = binary; path == "" {
		if path, err = os.Executable(); err != nil {
			return "", "", err
		}
	}
	if !filepath.IsAbs(path) {
		return "", "", fmt.Errorf("%s: must be an absolute path", path)
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", "", fmt.Errorf("%s does not exist", path)
	case err != nil:
		return "", "", err
	case !info.Mode().IsRegular():
		return "", "", fmt.Errorf("%s is no file", path)
	case info.Mode().Perm()&0o002 != 0:
		return "", "", fmt.Errorf("%s may be written by all users: chmod o-w %s", path, path)
	case unix.Access(path, unix.X_OK) != nil:
		return "", "", fmt.Errorf("%s cannot be executed", path)
	}
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path, "version", "-o", "json")
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &stdout, &stderr, time.Second
	if err := cmd.Run(); err != nil {
		return "", "", fmt.Errorf("`%s version` fails: %w: %s", path, err, firstLine(stderr.String()))
	}
	var build struct{ Version string }
	if json.Unmarshal(stdout.Bytes(), &build) != nil || build.Version == "" {
		return "", "", fmt.Errorf("`%s version -o json` does not answer like sluice: %q", path, firstLine(stdout.String()))
	}
	return path, build.Version, nil
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

// firstConfig returns the configuration that the daemon begins with: that of the former process if
// it comes in the place of one, else the file's.
func (r *runner) firstConfig() (*conf.Config, []conf.Problem, error) {
	if f := r.store.Former(); f != nil {
		return r.parse(r.configPath, f.Config)
	}
	return r.load(r.configPath)
}

// succeed returns what the former process, if there is one, is told when this one runs in its
// place; nil: there is none. The status says it from now on.
func (r *runner) succeed(ctx context.Context) *estate.Ready {
	f := r.store.Former()
	if f == nil {
		return nil
	}
	ready := &estate.Ready{Version: r.version, StartedNs: f.LaunchedNs()}
	if status, err := r.engine.Status(ctx); api.Answered(err) == nil && status.Takeover != nil {
		ready.Connections, ready.Lost = status.Takeover.Connections, status.Takeover.Lost
	}
	u := api.Upgrade{
		From:        api.Process{Version: f.Word.Version, PID: f.Word.PID},
		To:          api.Process{Version: r.version, PID: os.Getpid()},
		Connections: ready.Connections, Lost: ready.Lost, GapS: f.Word.Gap(ready.StartedNs).Seconds(),
	}
	r.server.Upgraded(&u)
	r.logger.Info(u.String(), "event", "upgraded", "connections", u.Connections, "gap", gap(u))
	return ready
}

// formerListener returns the control socket of the former process, and lets the server use the
// other listener.
func (r *runner) formerListener() (net.Listener, error) {
	former := api.FormerListeners(r.store.Former().Given)
	if former.Network != nil {
		r.server.Inherit(former.Network)
	}
	if former.Control != nil {
		return former.Control, nil
	}
	return api.Listen(r.socket)
}

// over reports whether another process runs in the place of this one.
func (r *runner) over() bool {
	select {
	case <-r.succeeded:
		return true
	default:
		return false
	}
}
