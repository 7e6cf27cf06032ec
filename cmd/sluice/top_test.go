package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"sluice/engine/api"
	"sluice/engine/api/apitest"
)

// asProgram makes this test binary the program itself, for tests that need a process of it.
const asProgram = "SLUICE_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// topDaemon is a fake daemon that also answers the requests that only top makes.
type topDaemon struct{ *apitest.Fake }

func (w topDaemon) Status(context.Context) (api.Status, error) {
	return api.Status{Attention: []string{"web: a backend is down"}}, w.Err
}

func (w topDaemon) Override(_ context.Context, r api.OverrideRequest) (api.Backend, error) {
	w.Record("%s %s %s", r.State, r.Service, r.Backend)
	b := w.Services[0].Backends[0]
	b.Weight, b.State = 0, api.StateDrain
	return b, w.Err
}

func TestTopWithoutATerminalPrintsOneFrame(t *testing.T) {
	t.Parallel()
	socket := serve(t, topDaemon{apitest.NewFake()})
	for _, args := range [][]string{{"top"}, {"top", "--once"}} {
		code, out, errs := sluice(append(args, "--interval", "100ms", "--socket", socket)...)
		if code != 0 || errs != "" || strings.Contains(out, "\x1b") || !strings.Contains(out, "10.0.0.12:8081") || !strings.Contains(out, "no_backend") {
			t.Errorf("%v: exit code %d %s\n%s", args, code, errs, out)
		}
	}
	_, out, _ := sluice("top", "-o", "json", "--interval", "100ms", "--socket", socket)
	var report topReport
	if err := json.Unmarshal([]byte(out), &report); err != nil || len(report.Services) != 2 || len(report.BusyShare) != 1 || report.Stats.Rx != 100 {
		t.Error(err, out)
	}
}

// terminal is a window of tmux with 80x24 cells and a shell in it.
type terminal struct {
	t      *testing.T
	socket string
}

func newTerminal(t *testing.T, environment ...string) terminal {
	if _, err := exec.LookPath("tmux"); err != nil {
		if os.Geteuid() == 0 {
			t.Fatal("tmux is missing: apt-get install tmux")
		}
		t.Skip("needs tmux")
	}
	term := terminal{t, filepath.Join(t.TempDir(), "tmux")}
	term.tmux("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "env", "-u", "NO_COLOR", "PS1=$ ", "sh")
	t.Cleanup(func() { term.tmux("kill-server") })
	for _, e := range append(environment, asProgram+"=1") {
		term.typed("export "+e, "Enter")
	}
	return term
}

func (term terminal) tmux(args ...string) string {
	term.t.Helper()
	output, err := exec.Command("tmux", append([]string{"-S", term.socket}, args...)...).CombinedOutput()
	if err != nil {
		term.t.Fatalf("tmux %v: %v: %s", args, err, output)
	}
	return string(output)
}

// typed types words, or presses keys that tmux has a name for.
func (term terminal) typed(keys ...string) {
	term.tmux(append([]string{"send-keys"}, keys...)...)
}

// shows waits until the screen fits the pattern, and gives it.
func (term terminal) shows(pattern string) string {
	term.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		screen := term.tmux("capture-pane", "-p")
		if regexp.MustCompile(pattern).MatchString(screen) {
			return screen
		}
		if time.Now().After(deadline) {
			term.t.Fatalf("the screen never shows %q:\n%s", pattern, screen)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestTopInATerminal drives top in tmux as its user does: through an order, another size, the loss
// and the return of the daemon, and out, with the terminal as it was before.
func TestTopInATerminal(t *testing.T) {
	t.Parallel()
	term := newTerminal(t)
	socket := filepath.Join(t.TempDir(), "s.sock")
	daemon := apitest.NewFake()
	_, stop := apitest.At(t, socket, topDaemon{daemon})
	term.typed("clear; echo before; stty -g | md5sum; "+os.Args[0]+" top --interval 100ms --socket "+socket+"; echo code $?; stty -g | md5sum", "Enter")
	term.shows(`▾ web tcp 198.51.100.10:80`)
	if coloured := term.tmux("capture-pane", "-p", "-e"); !regexp.MustCompile(`\x1b\[[0-9;]*3[123]m`).MatchString(coloured) {
		t.Error("nothing has a colour")
	}
	term.typed("/")
	term.typed("10.0.0.11", "Enter", "Down", "d")
	term.shows(`drain 10.0.0.11:8080, THE LAST of web`)
	term.typed("n")
	term.shows(`nothing changed`)
	if told := daemon.Calls(); told != "" {
		t.Error("without a yes the daemon heard", told)
	}
	term.typed("d")
	term.shows(`y/n`)
	term.typed("y")
	term.shows(`10.0.0.11:8080: weight 0, state drain`)
	if told := daemon.Calls(); told != "drain web 10.0.0.11:8080" {
		t.Error("the daemon heard", told)
	}
	term.typed("Escape")
	term.tmux("resize-window", "-x", "120", "-y", "40")
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		lines := strings.Split(term.tmux("capture-pane", "-p"), "\n")
		if len(lines) > 39 && strings.Contains(lines[39], "q quit") && strings.Contains(lines[38], "weight") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the frame does not follow the size of the window:\n%s", strings.Join(lines, "\n"))
		}
	}
	stop()
	term.shows(`no data since \d`)
	_, stop = apitest.At(t, socket, topDaemon{daemon})
	term.shows(`the daemon answers again`)
	term.typed("q")
	screen := term.shows(`(?s)before\n(.*?)code 0\n.*-\n`)
	stop()
	sums := regexp.MustCompile(`[0-9a-f]{32}`).FindAllString(screen, -1)
	if len(sums) != 2 || sums[0] != sums[1] {
		t.Errorf("the terminal is not as it was before:\n%s", screen)
	}
}

func TestTopWithoutColour(t *testing.T) {
	t.Parallel()
	term := newTerminal(t, "NO_COLOR=1")
	term.typed("clear; "+os.Args[0]+" top --interval 100ms --socket "+serve(t, topDaemon{apitest.NewFake()}), "Enter")
	term.shows(`▾ web tcp 198.51.100.10:80`)
	if coloured := term.tmux("capture-pane", "-p", "-e"); regexp.MustCompile(`\x1b\[[0-9;]*[349][0-7]m`).MatchString(coloured) {
		t.Errorf("there are colours:\n%q", coloured)
	}
	term.typed("q")
	term.shows(`\$\n*$`)
}
