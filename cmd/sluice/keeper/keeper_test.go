package keeper_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"sluice/cmd/sluice/keeper"
	"sluice/engine/estate"
)

// The test program is also the child: with this variable it does what its arguments say.
const childDir = "SLUICE_KEEPER_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		os.Exit(child(dir, os.Args[1:]))
	}
	os.Exit(m.Run())
}

// child is one run of the child: of several words the one of this run, the last one from then on.
func child(dir string, words []string) int {
	store := estate.Open()
	starts := appendTo(dir, "starts", "x")
	word := words[min(starts, len(words))-1]
	code, err := strconv.Atoi(word)
	if err == nil {
		return code // before it is ready
	}
	stops := make(chan os.Signal, 1)
	signal.Notify(stops, syscall.SIGTERM)
	hups := make(chan os.Signal, 1)
	signal.Notify(hups, syscall.SIGHUP)
	notify := func(state string) { _, _ = systemd.SdNotify(false, state) }
	switch word {
	case "store":
		for i, text := range []string{"old", "new", "removed"} {
			fd, _ := unix.MemfdCreate("test", 0)
			_, _ = unix.Write(fd, []byte(text))
			_ = store.Put([]string{"memory", "memory", "other"}[i], fd)
		}
		_ = store.Remove("other")
	case "early":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "take":
		fd, ok := store.Take("memory")
		data := make([]byte, 16)
		n, _ := unix.Pread(fd, data, 0)
		appendTo(dir, "taken", fmt.Sprint(string(data[:n]), ok, len(store.Names())))
		return 0
	}
	notify(systemd.SdNotifyReady)
	appendTo(dir, "ready", "x")
	switch word {
	case "store", "die":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "stop":
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case "hang":
		null, _ := os.OpenFile("/dev/null", os.O_WRONLY, 0)
		_ = unix.Dup2(int(null.Fd()), 2) // the stacks of its goroutines
		select {}
	case "fail":
		return 7
	}
	for ticker := time.NewTicker(100 * time.Millisecond); ; {
		select {
		case <-ticker.C:
			notify(systemd.SdNotifyWatchdog)
		case <-hups:
			appendTo(dir, "hups", "x")
		case <-stops:
			return 5
		}
	}
}

// appendTo appends a text to a file and returns its length then.
func appendTo(dir, name, text string) int {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	_, _ = f.WriteString(text)
	n, _ := f.Seek(0, io.SeekEnd)
	return int(n)
}

// run runs the keeper with a child, and returns its result and its log.
func run(t *testing.T, dir string, words ...string) (code int, log string) {
	t.Helper()
	t.Setenv(childDir, dir)
	var text bytes.Buffer
	code, err := keeper.Run(keeper.Options{Path: "/proc/self/exe", Args: words, StuckAfter: time.Second, Log: slog.New(slog.NewTextHandler(&text, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return code, text.String()
}

func content(dir, name string) string {
	data, _ := os.ReadFile(filepath.Join(dir, name))
	return string(data)
}

// TestRun checks how often a child is started, and with which result the keeper ends.
func TestRun(t *testing.T) {
	for _, c := range []struct {
		words        string
		starts, code int
		says         string
	}{
		{"0", 1, 0, ""},
		{"3", 1, 3, ""}, // its first start: a configuration that is wrong stays wrong
		{"early 0", 2, 0, "by the signal killed"}, // nothing that its configuration says
		{"die 0", 2, 0, "by the signal killed"},
		{"fail 0", 2, 0, "with exit status 7"},
		{"stop 0", 2, 0, "stopped_by_signal=true"},
		{"hang 0", 2, 0, "stopped_by_signal=false"},
		{"die 3 3 0", 4, 0, "keep_restart"}, // a failure after a start that went well may pass
		{"fail", 5, 7, "keep_gave_up"},
	} {
		t.Run(c.words, func(t *testing.T) {
			dir := t.TempDir()
			code, log := run(t, dir, strings.Fields(c.words)...)
			if starts := len(content(dir, "starts")); starts != c.starts || code != c.code || !strings.Contains(log, c.says) {
				t.Errorf("%d starts, exit status %d; want %d, %d and %q in\n%s", starts, code, c.starts, c.code, c.says, log)
			}
		})
	}
}

// TestStore checks that a child that is killed leaves its descriptors to the next: of two of one
// name the last, and none that was removed.
func TestStore(t *testing.T) {
	dir := t.TempDir()
	if code, log := run(t, dir, "store", "take"); code != 0 || content(dir, "taken") != "newtrue 0" {
		t.Errorf("exit status %d, %q\n%s", code, content(dir, "taken"), log)
	}
}

// TestSignals checks that signals reach the child, and that it is not started again when it was
// told to stop.
func TestSignals(t *testing.T) {
	dir := t.TempDir()
	until := func(name string) {
		for content(dir, name) == "" {
			time.Sleep(time.Millisecond)
		}
	}
	go func() {
		until("ready")
		_ = syscall.Kill(os.Getpid(), syscall.SIGHUP)
		until("hups")
		_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
	}()
	if code, log := run(t, dir, "serve"); code != 5 || content(dir, "starts") != "x" {
		t.Errorf("exit status %d, starts %q\n%s", code, content(dir, "starts"), log)
	}
}
