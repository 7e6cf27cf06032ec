package netlab_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/tools/netlab"
)

func startShell(t *testing.T, h *netlab.Host, script string) *netlab.Process {
	t.Helper()
	p, err := h.Start(exec.Command("sh", "-c", script))
	must(t, err)
	return p
}

// TestProcessRunsInside: a process is in its host's namespace, and its output is kept.
func TestProcessRunsInside(t *testing.T) {
	lab := newLab(t, "process")
	a := newHost(t, lab, "a")
	must(t, lab.Link(a, "eth0", a, "eth1", netlab.LinkOptions{}))
	var copied strings.Builder
	cmd := exec.Command("sh", "-c", "readlink /proc/self/ns/net; echo seen >&2; ls /sys/class/net; printf unfinished")
	cmd.Stderr = &copied
	p, err := a.Start(cmd)
	must(t, err)
	must(t, p.Wait())
	must(t, p.Wait())
	var inside string
	must(t, a.Do(func() error { inside = netnsOf("/proc/thread-self/ns/net"); return nil }))
	for _, want := range []string{inside + "\n", "seen\n", "eth0\neth1\nlo\n"} {
		if !strings.Contains(p.Output(), want) {
			t.Errorf("no %q in the output %q", want, p.Output())
		}
	}
	if copied.String() != "seen\n" {
		t.Errorf("standard error went on as %q", copied.String())
	}
	line, err := p.WaitLine(ctxOf(t), "unfin")
	if line != "unfinished" || err != nil {
		t.Errorf("the last line without newline: %q, error %v", line, err)
	}
	if _, err := a.Start(exec.Command("/no/such/program")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("starting what is not there: error %v", err)
	}
}

// TestWaitLine: lines are found whenever they were printed, and the end of the process or of the
// context is an error with the output.
func TestWaitLine(t *testing.T) {
	a := newHost(t, newLab(t, "waitline"), "a")
	in, out, err := os.Pipe()
	must(t, err)
	defer in.Close()
	defer out.Close()
	cmd := exec.Command("sh", "-c", "echo one; echo two; while read line; do echo got $line; done; echo last")
	cmd.Stdin = in
	p, err := a.Start(cmd)
	must(t, err)
	ctx := ctxOf(t)
	for _, want := range []string{"two", "one", "two"} {
		line, err := p.WaitLine(ctx, want)
		must(t, err)
		if line != want {
			t.Errorf("got line %q, want %q", line, want)
		}
	}
	for i := range 3 {
		mark := p.Mark()
		fmt.Fprintln(out, i)
		line, err := p.WaitLineAfter(ctx, mark, "got")
		must(t, err)
		if want := fmt.Sprint("got ", i); line != want {
			t.Errorf("got line %q, want %q", line, want)
		}
	}
	short, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	if _, err := p.WaitLine(short, "never"); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "got 2") {
		t.Errorf("not stopped in time: error %v", err)
	}
	out.Close()
	if _, err := p.WaitLine(ctx, "never"); err == nil || !strings.Contains(err.Error(), "ended") || !strings.Contains(err.Error(), "last") {
		t.Errorf("process ended: error %v", err)
	}
	must(t, p.Wait())
}

// TestStopAndKill: SIGTERM is enough for the well-behaved; others are killed and named.
func TestStopAndKill(t *testing.T) {
	a := newHost(t, newLab(t, "stop"), "a")
	ctx := ctxOf(t)

	polite := startShell(t, a, "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.01; done")
	_, err := polite.WaitLine(ctx, "ready")
	must(t, err)
	must(t, polite.Stop(waitLimit))
	var exit *exec.ExitError
	if err := polite.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("the polite one ended with %v", err)
	}
	if !strings.Contains(polite.Output(), "bye") {
		t.Errorf("its output is %q", polite.Output())
	}
	must(t, polite.Stop(waitLimit)) // gone already
	must(t, polite.Kill())
	if err := polite.Signal(syscall.SIGHUP); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal to what is gone: %v", err)
	}

	stubborn := startShell(t, a, "trap '' TERM; echo ready; while :; do sleep 0.01; done")
	_, err = stubborn.WaitLine(ctx, "ready")
	must(t, err)
	if err := stubborn.Stop(50 * time.Millisecond); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("stopping the stubborn one: error %v", err)
	}
	<-stubborn.Ended()

	victim := startShell(t, a, "echo ready; sleep 600")
	_, err = victim.WaitLine(ctx, "ready")
	must(t, err)
	must(t, victim.Kill())
	if err := victim.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the victim ended with %v", err)
	}
}

// TestLongOutput: only the end of a long output is kept, and waiting still works.
func TestLongOutput(t *testing.T) {
	a := newHost(t, newLab(t, "output"), "a")
	p := startShell(t, a, "head -c 20000000 /dev/zero | tr '\\0' x; echo; echo the end")
	line, err := p.WaitLine(ctxOf(t), "the end")
	must(t, err)
	if line != "the end" {
		t.Errorf("got a line of %d bytes", len(line))
	}
	if n := len(p.Output()); n > 4<<20 {
		t.Errorf("%d bytes kept", n)
	}
	if p.Mark() != 20000000+1+8 {
		t.Errorf("%d bytes counted", p.Mark())
	}
}
