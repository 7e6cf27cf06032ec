package engine_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"sluice/engine/api"
)

// apply applies services, to be confirmed within so many seconds.
func (d *onDisk) apply(services string, confirmS float64) (api.ApplyResult, error) {
	return d.Engine.Apply(bg, api.ApplyRequest{File: api.File{Name: "new.toml", Text: d.Text(services)}, ConfirmS: confirmS})
}

// runs says how many backends run, and which generation.
func (d *onDisk) runs() string {
	d.t.Helper()
	return fmt.Sprint(len(list(d.t, d.Lab)[0].Backends), " backends, generation ", d.status().Config.Generation)
}

func (d *onDisk) wantRuns(when, want string) {
	d.t.Helper()
	if got := d.runs(); got != want {
		d.t.Errorf("%s: %s run, want %s", when, got, want)
	}
}

var (
	with3 = config(nat3())
	with2 = config(svc{backends: []string{"10.0.0.13:8080", "10.0.0.12:8080"}})
	with4 = config(svc{backends: []string{"10.0.0.11:8080", "10.0.0.12:8080", "10.0.0.13:8080", "10.0.0.14:80"}})
)

// TestApply: the daemon's file follows, the former one stays beside it, and its mode stays.
func TestApply(t *testing.T) {
	t.Parallel()
	d := newOnDisk(t)
	d.start(with3)
	if err := os.Chmod(d.File, 0o640); err != nil {
		t.Fatal(err)
	}
	before := openAll(t, d.Lab, 0, 9)
	result, err := d.apply(with4, 0)
	if err != nil || result.Pending != nil || len(result.Changes) != 1 || result.Generation != 2 {
		t.Errorf("%+v, %v", result, err)
	}
	d.wantRuns("applied", "4 backends, generation 2")
	previous, err := os.ReadFile(d.File + ".previous")
	if err != nil || string(previous) != d.Text(with3) || d.fileText() != d.Text(with4) {
		t.Errorf("the files: %v", err)
	}
	if info, err := os.Stat(d.File); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	sameAs(t, before, goOn(t, d.Lab, 0, 9), "")
	if s := d.status(); !s.Reload.OK || s.Config.FileDiffers || len(s.Attention) != 0 {
		t.Errorf("%+v", s)
	}
	d.restart("")
	d.wantRuns("restarted", "4 backends, generation 2")
}

// TestConfirm: until then the file is as it was, and nothing else may change.
func TestConfirm(t *testing.T) {
	t.Parallel()
	d := newOnDisk(t)
	d.start(with3)
	if _, err := d.Engine.Confirm(bg); err == nil {
		t.Error("nothing waits, and was confirmed")
	}
	result, err := d.apply(with4, 3600)
	if err != nil || result.Pending == nil || result.Pending.LeftS < 3000 {
		t.Errorf("%+v, %v", result, err)
	}
	d.wantRuns("applied", "4 backends, generation 2")
	if d.fileText() != d.Text(with3) {
		t.Error("the file was replaced before the confirm")
	}
	if s := d.status(); s.Pending == nil || len(s.Attention) != 1 {
		t.Errorf("%+v", s)
	}
	for what, err := range map[string]error{
		"reload":   second(d.Engine.Reload(bg, api.ReloadOptions{Force: true})),
		"apply":    second(d.apply(with2, 0)),
		"rollback": second(d.Engine.Rollback(bg, 7)),
	} {
		if err == nil || !strings.Contains(err.Error(), "generation 2 waits for its confirm") {
			t.Errorf("%s while a configuration waits: %v", what, err)
		}
	}
	if s := d.status(); !s.Reload.OK {
		t.Errorf("what came out of turn counts as a failed reload: %+v", s.Reload)
	}
	if result, err := d.Engine.Confirm(bg); err != nil || result.Generation != 2 {
		t.Errorf("%+v, %v", result, err)
	}
	if d.fileText() != d.Text(with4) {
		t.Error("the file was not replaced by the confirm")
	}
	d.wantRuns("confirmed", "4 backends, generation 2")
	if s := d.status(); s.Pending != nil || len(s.Attention) != 0 {
		t.Errorf("%+v", s)
	}
}

func second[T any](_ T, err error) error { return err }

// TestNobodyConfirms: the former configuration comes back by itself, with what was set at run time;
// so it does when the daemon is started again.
func TestNobodyConfirms(t *testing.T) {
	slow(t)
	d := newOnDisk(t)
	d.start(with3)
	if _, err := d.Engine.SetWeight(bg, "web", b1, 5); err != nil {
		t.Fatal(err)
	}
	before := openAll(t, d.Lab, 0, 9)
	if _, err := d.apply(config(svc{backends: []string{b1 + " 3", b2, b3}}), 0.05); err != nil {
		t.Fatal(err)
	}
	d.Await("the end of the time", func() bool { return d.status().Pending == nil })
	d.wantRuns("not confirmed", "3 backends, generation 1")
	if weights := weightsOf(t, d.Lab); weights[0] != 5 {
		t.Errorf("weights %v: the one set at run time is lost", weights)
	}
	s := d.status()
	if s.Reload.OK || !strings.Contains(s.Reload.Error, "generation 2 was not confirmed in time") || len(s.Attention) != 1 {
		t.Errorf("%+v", s.Reload)
	}
	sameAs(t, before, goOn(t, d.Lab, 0, 9), "")

	if _, err := d.apply(with4, 3600); err != nil {
		t.Fatal(err)
	}
	d.restart("")
	d.wantRuns("restarted", "3 backends, generation 1")
}

// TestApplyRefuses: what a reload refuses, and what could never be made permanent.
func TestApplyRefuses(t *testing.T) {
	t.Parallel()
	d := newOnDisk(t)
	d.start(with3)
	for text, says := range map[string]string{
		"no TOML":                           "new.toml:",
		config(svc{backends: []string{b1}}): "2 of 3 backends",
		strings.TrimSpace(config(svc{backends: []string{b1, b2}})): "looks cut off",
	} {
		err := second(d.apply(text, 60))
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", text, err)
		}
		d.wantRuns("refused", "3 backends, generation 1")
	}
	s := d.status()
	if s.Reload.OK || s.Reload.Error == "" || s.Pending != nil {
		t.Errorf("%+v", s)
	}
}

// TestRollback: to the configuration before, and again to the one after; to any that is kept; over
// restarts.
func TestRollback(t *testing.T) {
	t.Parallel()
	d := newOnDisk(t)
	d.start(with3)
	if err := second(d.Engine.Rollback(bg, 0)); err == nil || !strings.Contains(err.Error(), "there is no earlier configuration") {
		t.Error(err)
	}
	for _, services := range []string{with4, with4, with2} { // the same twice is one generation
		if _, err := d.Reload(services); err != nil {
			t.Fatal(err)
		}
	}
	d.wantRuns("reloaded", "2 backends, generation 3")
	step := func(number int, want, services string) {
		t.Helper()
		if _, err := d.Engine.Rollback(bg, number); err != nil {
			t.Error(number, err)
		}
		d.wantRuns(fmt.Sprint("rollback ", number), want)
		if d.fileText() != d.Text(services) {
			t.Errorf("rollback %d: the file has not followed", number)
		}
	}
	step(0, "4 backends, generation 4", with4)
	step(0, "2 backends, generation 5", with2)
	step(1, "3 backends, generation 6", with3)
	if err := second(d.Engine.Rollback(bg, 77)); err == nil || !strings.Contains(err.Error(), "must be one of 1, 2, 3, 4, 5, 6") {
		t.Error(err)
	}
	d.restart("")
	d.wantRuns("restarted", "3 backends, generation 6")
	step(0, "2 backends, generation 7", with2)

	if _, err := d.apply(with4, 3600); err != nil {
		t.Fatal(err)
	}
	step(0, "2 backends, generation 7", with2) // takes the apply back
	for i := range 30 {
		if _, err := d.Reload([]string{with3, with2}[i%2]); err != nil {
			t.Fatal(err)
		}
	}
	all, err := d.Engine.Generations(bg)
	if err != nil || len(all) != 10 || !all[0].Running || all[0].Cause != "reload" {
		t.Errorf("%+v, %v", all, err)
	}
	d.restart("")
	again, err := d.Engine.Generations(bg)
	if err != nil || len(again) != 10 || again[9].SHA256 != all[9].SHA256 || again[9].Number != all[9].Number {
		t.Errorf("%+v, %v", again, err)
	}
}

// TestRollbackOfBadEdit checks that after an edit that the daemon refuses, or would refuse, a
// rollback without a number restores the file of what runs, and changes nothing that runs.
func TestRollbackOfBadEdit(t *testing.T) {
	t.Parallel()
	d := newOnDisk(t)
	d.start(with3)
	if _, err := d.Reload(with4); err != nil {
		t.Fatal(err)
	}
	good := d.fileText()
	tooFew := d.Text(config(svc{backends: []string{b1}}))
	for _, c := range []struct {
		bad     string
		reloads bool
	}{{"no TOML\n", true}, {"no TOML\n", false}, {tooFew, true}} {
		if err := os.WriteFile(d.File, []byte(c.bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if c.reloads {
			_, err := d.Engine.Reload(bg, api.ReloadOptions{})
			if err == nil || !strings.HasSuffix(err.Error(), "\nnothing changed, generation 2 runs on") {
				t.Errorf("%+v: %v", c, err)
			}
		}
		result, err := d.Engine.Rollback(bg, 0)
		want := []string{d.File + " has the configuration of generation 2 again, which runs on"}
		if err != nil || result.Generation != 2 || !slices.Equal(result.Changes, want) {
			t.Errorf("%+v: %v, %+v", c, err, result)
		}
		d.wantRuns(c.bad, "4 backends, generation 2")
		if previous, err := os.ReadFile(d.File + ".previous"); err != nil || string(previous) != c.bad || d.fileText() != good {
			t.Errorf("%+v: the file has not followed, or the bad edit is lost: %v", c, err)
		}
		if s := d.status(); !s.Reload.OK || s.Config.FileDiffers {
			t.Errorf("%+v: %+v %+v", c, s.Reload, s.Config)
		}
	}
	if err := second(d.apply("no TOML", 0)); err == nil || !strings.HasSuffix(err.Error(), "\nnothing changed, generation 2 runs on") {
		t.Error(err)
	}
	if _, err := d.Engine.Rollback(bg, 0); err != nil {
		t.Error(err)
	}
	d.wantRuns("rolled back", "3 backends, generation 3")
}

// TestStatusOfReloads: how the last one ended, until the next.
func TestStatusOfReloads(t *testing.T) {
	t.Parallel()
	d := newOnDisk(t)
	d.start(with3)
	if s := d.status(); !s.Reload.OK || s.Config.Generation != 1 || s.Config.Services != 1 || s.Config.Backends != 3 || len(s.Config.SHA256) != 64 {
		t.Errorf("%+v", s)
	}
	d.Write("nonsense")
	if s := d.status(); !s.Config.FileDiffers || len(s.Attention) != 0 {
		t.Errorf("%+v", s)
	}
	if _, err := careful(d.Lab, "nonsense"); err == nil {
		t.Error("nonsense was accepted")
	}
	if s := d.status(); s.Reload.OK || !strings.Contains(s.Reload.Error, "sluice.toml:") || len(s.Attention) != 1 || s.Config.Generation != 1 {
		t.Errorf("%+v", s)
	}
	if _, err := careful(d.Lab, with4); err != nil {
		t.Fatal(err)
	}
	if s := d.status(); !s.Reload.OK || s.Config.FileDiffers || len(s.Attention) != 0 || s.Config.Generation != 2 {
		t.Errorf("%+v", s)
	}
}
