package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/tools/e2e/testbed"
)

// childEnv makes the test binary run the demonstration.
const childEnv = "SLUICE_DEMO_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		main()
	}
	os.Exit(m.Run())
}

// command returns a command that runs the demonstration.
func command(t *testing.T) (cmd *exec.Cmd, stdout *bytes.Buffer) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces and XDP need root")
	}
	sluice := filepath.Join(t.TempDir(), "sluice")
	if err := testbed.Build(sluice); err != nil {
		t.Fatal(err)
	}
	cmd = exec.CommandContext(t.Context(), os.Args[0], "-sluice", sluice)
	cmd.Env = append(os.Environ(), childEnv+"=1")
	stdout = new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = stdout, stdout
	cmd.WaitDelay = waitLimit
	return cmd, stdout
}

// left returns what a demonstration has left behind.
func left(t *testing.T, pid int) (all []string) {
	t.Helper()
	for _, pattern := range []string{"/run/netns/netlab.demo.*.%d.*", os.TempDir() + "/sluice-testbed.%d.*"} {
		found, err := filepath.Glob(fmt.Sprintf(pattern, pid))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	return all
}

// TestDemonstration checks that the demonstration shows every path, finds nothing wrong and leaves
// nothing behind, not even of an earlier run that was killed.
func TestDemonstration(t *testing.T) {
	killed := signalled(t, syscall.SIGKILL)
	if len(left(t, killed)) == 0 {
		t.Error("a killed demonstration left nothing behind, so that this test shows less than it should")
	}
	cmd, stdout := command(t)
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	for _, want := range []string{"Everything was right", "IPv6 in IPv4", "20/20/20", "20/20/0, 20 refused", "30/0/30"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("it doesn't say %q:\n%s", want, stdout)
		}
	}
	if found := append(left(t, killed), left(t, cmd.Process.Pid)...); len(found) > 0 {
		t.Error("left behind:", found)
	}
}

// TestInterrupted checks that the demonstration fails and cleans up on Ctrl-C.
func TestInterrupted(t *testing.T) {
	if found := left(t, signalled(t, syscall.SIGINT)); len(found) > 0 {
		t.Error("left behind:", found)
	}
}

// signalled starts a demonstration, sends it a signal while it works, and waits for its end.
func signalled(t *testing.T, signal syscall.Signal) (pid int) {
	t.Helper()
	cmd, _ := command(t)
	watch := &watcher{word: "HTTP requests", seen: make(chan struct{})}
	cmd.Stdout = watch
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-watch.seen:
	case <-time.After(waitLimit):
		t.Errorf("it has sent nothing after %v", waitLimit)
	}
	if err := cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Errorf("after %v it says that all was right", signal)
	}
	return cmd.Process.Pid
}

// watcher closes seen when a word has been written.
type watcher struct {
	text []byte
	word string
	seen chan struct{}
}

// Write implements io.Writer for one goroutine.
func (w *watcher) Write(b []byte) (int, error) {
	before := bytes.Contains(w.text, []byte(w.word))
	w.text = append(w.text, b...)
	if !before && bytes.Contains(w.text, []byte(w.word)) {
		close(w.seen)
	}
	return len(b), nil
}
