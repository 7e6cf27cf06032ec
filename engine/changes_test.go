package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"sluice/engine/api"
	"sluice/engine/enginetest"
)

var bg = context.Background()

// onDisk is a lab with its configuration and state in files. It can be started again.
type onDisk struct {
	*enginetest.Lab
	t   *testing.T
	dir string
	log *logBuffer
}

func newOnDisk(t *testing.T) *onDisk { return &onDisk{t: t, dir: t.TempDir(), log: new(logBuffer)} }

// start starts a daemon on the files; services "" leaves the file as it is.
func (d *onDisk) start(services string) {
	d.t.Helper()
	d.Lab = enginetest.New(d.t, 1, 1)
	d.File = filepath.Join(d.dir, "sluice.toml")
	d.StateDir = filepath.Join(d.dir, "state")
	d.Log = slog.New(slog.NewTextHandler(d.log, nil))
	d.Start(1, services)
}

// restart ends the daemon and starts another, with the file as it is or with other services.
func (d *onDisk) restart(services string) {
	d.t.Helper()
	d.Close()
	d.start(services)
}

// stateFile finds a file of the state directory.
func (d *onDisk) stateFile(pattern string) string {
	d.t.Helper()
	found, err := filepath.Glob(filepath.Join(d.dir, "state", "*", pattern))
	if err != nil || len(found) != 1 {
		d.t.Fatalf("%s: found %v, %v", pattern, found, err)
	}
	return found[0]
}

func (d *onDisk) status() api.Status {
	d.t.Helper()
	s, err := d.Engine.Status(bg)
	if err != nil {
		d.t.Fatal(err)
	}
	return s
}

func (d *onDisk) fileText() string {
	d.t.Helper()
	text, err := os.ReadFile(d.File)
	if err != nil {
		d.t.Fatal(err)
	}
	return string(text)
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func overridesOf(t *testing.T, lab *enginetest.Lab) string {
	t.Helper()
	all, err := lab.Engine.Overrides(bg)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, o := range all {
		text := fmt.Sprint(o.Service, " ", o.Backend, " ", o.State)
		if o.Weight != nil {
			text += fmt.Sprint(" ", *o.Weight)
		}
		if !o.Deadline.IsZero() {
			text += " deadline"
		}
		if !o.Configured {
			text += " not configured"
		}
		words = append(words, text)
	}
	return strings.Join(words, "; ")
}

// weightsOf lists the backends' weights, of one service after the other.
func weightsOf(t *testing.T, lab *enginetest.Lab) (weights []int) {
	t.Helper()
	for _, s := range list(t, lab) {
		for _, b := range s.Backends {
			weights = append(weights, b.Weight)
		}
	}
	return weights
}

func set(t *testing.T, lab *enginetest.Lab, state, backend string, deadlineS float64) api.Backend {
	t.Helper()
	b, err := lab.Engine.Override(bg, api.OverrideRequest{Service: "web", Backend: backend, State: state, DeadlineS: deadlineS})
	if err != nil {
		t.Fatal(state, backend, err)
	}
	return b
}

const b1, b2, b3 = "10.0.0.11:8080", "10.0.0.12:8080", "10.0.0.13:8080"

// TestOverridesOutlive: what is set at run time holds over reloads, restarts, and the absence of
// its backend; a weight yields to a new one in the file; what is cleared stays cleared.
func TestOverridesOutlive(t *testing.T) {
	t.Parallel()
	d := newOnDisk(t)
	d.start(config(nat3()))
	set(t, d.Lab, api.OverrideDrain, b1, 3600)
	set(t, d.Lab, api.OverrideDisable, b2, 0)
	if _, err := d.Engine.SetWeight(bg, "web", b3, 7); err != nil {
		t.Fatal(err)
	}
	const all = "web " + b1 + " drain deadline; web " + b2 + " disable; web " + b3 + " weight 7"
	check := func(when, want string, weights ...int) {
		t.Helper()
		if got := overridesOf(t, d.Lab); got != want {
			t.Errorf("%s: %s, want %s", when, got, want)
		}
		if got := weightsOf(t, d.Lab); !slices.Equal(got, weights) {
			t.Errorf("%s: weights %v, want %v", when, got, weights)
		}
	}
	check("set", all, 0, 0, 7)
	if _, err := d.Reload(config(nat3(), svc{name: "other", port: "81", backends: []string{"10.0.0.14:80"}})); err != nil {
		t.Fatal(err)
	}
	check("reload", all, 0, 0, 7, 1)
	d.restart(config(nat3()))
	check("restart", all, 0, 0, 7)

	result, err := d.Reload(config(svc{backends: []string{b2, b3 + " 2"}}))
	if err != nil || !strings.Contains(strings.Join(result.Changes, "\n"), "the weight 7 set at run time yields") {
		t.Errorf("%+v, %v", result, err)
	}
	check("without b1, another weight for b3", "web "+b2+" disable; web "+b1+" drain deadline not configured", 0, 2)
	result, err = d.Reload(config(nat3()))
	if err != nil || len(result.Warnings) != 1 || !strings.Contains(result.Warnings[0], "new backend "+b1+" has an override from before: drain") {
		t.Errorf("%+v, %v", result, err)
	}
	check("b1 is back", "web "+b1+" drain deadline; web "+b2+" disable", 0, 0, 1)
	d.restart(config(svc{backends: []string{b1 + " 5", b2, b3}}))
	check("restart with another weight", "web "+b1+" drain deadline; web "+b2+" disable", 0, 0, 1)

	set(t, d.Lab, api.OverrideEnable, b1, 0)
	check("enable", "web "+b2+" disable", 5, 0, 1)
	cleared, err := d.Engine.ClearOverrides(bg, "", "")
	if err != nil || len(cleared) != 1 || cleared[0].Backend != b2 {
		t.Errorf("%+v, %v", cleared, err)
	}
	check("cleared", "", 5, 1, 1)
	d.restart("")
	check("restart", "", 5, 1, 1)
}

// TestOverrideStates: each verb over each other.
func TestOverrideStates(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ do, want string }{
		{"drain", "drain 0"},
		{"disable", "disable 0"},
		{"drain disable", "disable 0"},
		{"disable drain", "drain 0"},
		{"drain enable", " 2"},
		{"disable enable", " 2"},
		{"weight3", "weight 3"},
		{"weight2", " 2"},
		{"weight0", "weight 0"},
		{"weight0 enable", " 2"},
		{"weight3 drain", "drain 0"},
		{"weight3 drain enable", "weight 3"},
		{"drain weight3", "weight 3"},
		{"disable weight2", " 2"},
		{"drain clear", " 2"},
		{"enable", " 2"},
	} {
		lab := enginetest.New(t, 1, 1)
		lab.Start(1, config(svc{backends: []string{b1 + " 2", b2}}))
		for do := range strings.FieldsSeq(c.do) {
			var err error
			switch {
			case do == "clear":
				_, err = lab.Engine.ClearOverrides(bg, "web", b1)
			case strings.HasPrefix(do, "weight"):
				_, err = lab.Engine.SetWeight(bg, "web", b1, int(do[6]-'0'))
			default:
				set(t, lab, do, b1, 0)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		b := list(t, lab)[0].Backends[0]
		if got := fmt.Sprint(b.Override, " ", b.Weight); got != c.want {
			t.Errorf("%s: %q, want %q", c.do, got, c.want)
		}
		lab.Close()
	}
}

// TestDisableEndsConnections: of one backend, not of the others; a drain does so at its deadline,
// by itself.
func TestDisableEndsConnections(t *testing.T) {
	t.Parallel()
	for _, state := range []string{api.OverrideDisable, api.OverrideDrain} {
		t.Run(state, func(t *testing.T) {
			d := newOnDisk(t)
			d.start(config(nat3()))
			before := openAll(t, d.Lab, 0, 30)
			deadline := 0.0
			if state == api.OverrideDrain {
				sameAs(t, before, goOn(t, d.Lab, 0, 30), "")
				deadline = 0.02
			}
			set(t, d.Lab, state, b1, deadline)
			if state == api.OverrideDrain {
				d.Await("the deadline", func() bool { return strings.Contains(d.log.String(), "the deadline has come") })
			}
			forwarded := d.Stats().Forwarded
			for n := range 30 {
				d.Arrive(enginetest.Clients, opening(n).Flags(ack).Frame())
			}
			d.Quiet()
			theirs := spread(before)[b1]
			if n := int(d.Stats().Forwarded - forwarded); n != 30-theirs {
				t.Errorf("%d packets were forwarded, want those of the other backends: %d", n, 30-theirs)
			}
			resets := 0
			for _, sent := range d.Collect() {
				m := parse(t, sent.Frame)
				if m.TCPFlags&rst != 0 && sent.Port == enginetest.Clients {
					resets++
				}
			}
			if resets != theirs || theirs == 0 {
				t.Errorf("%d clients were told by RST, want %d", resets, theirs)
			}
		})
	}
}

// TestBrokenState: nothing in the state directory prevents a start; an invalid file is
// set aside, and the rest of it used.
func TestBrokenState(t *testing.T) {
	slow(t)
	entry := `{"protocol":"tcp","address":"198.51.100.10","ports":"80","backend":"10.0.0.11:8080","state":"drain","since":"2026-01-01T00:00:00Z"}`
	for name, c := range map[string]struct{ text, want string }{
		"empty":         {"", ""},
		"cut":           {`{"version":1,"overrides":[`, ""},
		"zeros":         {strings.Repeat("\x00", 100), ""},
		"other version": {`{"version":2,"overrides":[` + entry + `]}`, ""},
		"wrong type":    {`{"version":1,"overrides":"all"}`, ""},
		"one is wrong":  {`{"version":1,"overrides":[` + entry + `,{"protocol":"icmp"}]}`, "web " + b1 + " drain"},
		"wrong state":   {`{"version":1,"overrides":[` + strings.Replace(entry, "drain", "dance", 1) + `]}`, ""},
		"wrong weight":  {`{"version":1,"overrides":[` + strings.Replace(entry, `"state"`, `"weight":70000,"state"`, 1) + `]}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := newOnDisk(t)
			d.start(config(nat3()))
			set(t, d.Lab, api.OverrideDrain, b2, 0)
			file := d.stateFile("overrides.json")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			// And a generation that is none.
			if err := os.WriteFile(filepath.Join(filepath.Dir(file), "x.toml"), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
			d.restart(config(nat3()))
			if got := overridesOf(t, d.Lab); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			if kept, err := os.ReadFile(file + ".broken"); err != nil || string(kept) != c.text {
				t.Errorf("what was set aside: %q, %v", kept, err)
			}
			if !strings.Contains(d.log.String(), "is invalid and not used") {
				t.Error("nothing was logged:", d.log)
			}
			set(t, d.Lab, api.OverrideDrain, b3, 0) // and it can be written again
			d.restart("")
		})
	}
}

// TestNoStateDirectory: without a place to write everything works, until the daemon ends, and it
// says so.
func TestNoStateDirectory(t *testing.T) {
	t.Parallel()
	d := newOnDisk(t)
	if err := os.WriteFile(filepath.Join(d.dir, "state"), []byte("in the way"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.start(config(nat3()))
	set(t, d.Lab, api.OverrideDrain, b1, 0)
	if _, err := d.Reload(config(svc{backends: []string{b1, b2}})); err != nil {
		t.Fatal(err)
	}
	s := d.status()
	if s.StateErr == "" || len(s.Attention) != 1 || len(s.Overrides) != 1 {
		t.Errorf("%+v", s)
	}
	if _, err := d.Engine.Rollback(bg, 0); err != nil || len(list(t, d.Lab)[0].Backends) != 3 {
		t.Error("rollback from memory:", err)
	}
	if n := strings.Count(d.log.String(), "can't be used"); n != 1 {
		t.Errorf("%d warnings, want one:\n%s", n, d.log)
	}
	d.restart("")
	if got := overridesOf(t, d.Lab); got != "" {
		t.Error(got)
	}
}

// TestStateDirectoryOfOthers checks that a directory that other users can write to is neither read
// nor written, until its permissions are right and the daemon is restarted. The directories are
// state_dir ("") and what the daemon has in it ("*").
func TestStateDirectoryOfOthers(t *testing.T) {
	slow(t)
	type dirCase struct {
		name, dir string
		spoil     func(path string) error
		says      string // "": that is fine
	}
	mode := func(mode os.FileMode) func(string) error {
		return func(path string) error { return os.Chmod(path, mode) }
	}
	cases := []dirCase{
		{"every user", "", mode(0o777), "has mode 0777, so every user on this machine can change its content: chmod o-w "},
		{"every user below", "*", mode(0o702), "has mode 0702, so every user on this machine can change its content: chmod o-w "},
		{"sticky", "", mode(0o777 | os.ModeSticky), ""},
		{"our group", "", mode(0o770), ""},
		{"all may read", "*", mode(0o755), ""},
	}
	if os.Geteuid() == 0 { // who may give directories away
		own := func(uid, gid int, then os.FileMode) func(string) error {
			return func(path string) error { return errors.Join(os.Lchown(path, uid, gid), os.Chmod(path, then)) }
		}
		cases = append(cases,
			dirCase{"another's", "", own(4242, 0, 0o700), "belongs to user 4242, who could change its content; only root or the daemon's user, 0, may own it: chown 0 "},
			dirCase{"another's below", "*", own(4242, 0, 0o700), "belongs to user 4242"},
			dirCase{"another group's", "", own(0, 4242, 0o770), "has mode 0770, so group 4242, which the daemon is not in"},
			dirCase{"another group's, to read", "", own(0, 4242, 0o750), ""},
			dirCase{"a link of another's", "*", func(path string) error {
				return errors.Join(os.Rename(path, path+".real"), os.Symlink(path+".real", path), os.Lchown(path, 4242, 4242))
			}, "belongs to user 4242"},
		)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := newOnDisk(t)
			d.start(config(nat3()))
			set(t, d.Lab, api.OverrideDrain, b1, 0)
			before := overridesOf(t, d.Lab)
			file := d.stateFile("overrides.json")
			path := filepath.Join(d.dir, "state")
			if c.dir != "" {
				path = filepath.Dir(file)
			}
			kept, err := os.ReadFile(file)
			if err := errors.Join(err, c.spoil(path)); err != nil {
				t.Fatal(err)
			}
			d.restart("")
			s := d.status()
			if c.says == "" {
				if s.StateErr != "" || overridesOf(t, d.Lab) != before {
					t.Errorf("%s, and set is %q", s.StateErr, overridesOf(t, d.Lab))
				}
				return
			}
			if !strings.Contains(s.StateErr, path+" "+c.says) || len(s.Attention) != 1 || !strings.Contains(s.Attention[0], s.StateErr) {
				t.Errorf("%q, %q", s.StateErr, s.Attention)
			}
			if !strings.Contains(d.log.String(), "state_failed") || !strings.Contains(d.log.String(), path+" "+c.says) {
				t.Error("the log does not say it:", d.log)
			}
			if got := overridesOf(t, d.Lab); got != "" {
				t.Error("what others could write was believed:", got)
			}
			set(t, d.Lab, api.OverrideDrain, b2, 0)
			if now, err := os.ReadFile(file); err != nil || string(now) != string(kept) {
				t.Errorf("%v, the file was written: %s", err, now)
			}
			if s := d.status(); s.StateErr == "" {
				t.Error("after a change all seems well")
			}
		})
	}
}
