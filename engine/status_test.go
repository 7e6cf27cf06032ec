package engine_test

import (
	"strings"
	"testing"

	"sluice/engine/api"
)

// TestStatusNamesBackendsThatAreDown: how many are down, how many of them are in use, which, since
// when and why; and nothing needs attention once all are up.
func TestStatusNamesBackendsThatAreDown(t *testing.T) {
	t.Parallel()
	lab, fake := checkedLab(t, checked(nat3(), "", ""))
	status := func() api.Status {
		t.Helper()
		s, err := lab.Engine.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	fake.setFailing("10.0.0.12")
	awaitStates(t, lab, "up down up")
	s := status()
	if s.Backends != (api.BackendCounts{Total: 3, Up: 2, Down: 1}) || len(s.Down) != 1 || len(s.Attention) != 1 ||
		!strings.HasPrefix(s.Attention[0], "backend 10.0.0.12:8080 of service web is down: ") {
		t.Fatalf("%+v", s)
	}
	if d := s.Down[0]; d.Service != "web" || d.Backend != "10.0.0.12:8080" || d.StateName != "down" || d.Protected || d.Why != "does not answer" ||
		d.SinceS < 0 || d.SinceS > 600 {
		t.Errorf("%+v", d)
	}

	fake.setFailing("10.0.0.11", "10.0.0.12", "10.0.0.13")
	lab.Await("two to be in use", func() bool { return status().Backends.Protected == 2 })
	s = status()
	if s.Backends.String() != "3/3 down (2 in use)" || len(s.Down) != 3 || s.Down[0].StateName != "down (in use)" || !s.Down[0].Protected ||
		s.Down[1].StateName != "down" || !strings.HasPrefix(s.Attention[len(s.Attention)-1], "backends 3/3 down (2 in use), for example ") {
		t.Errorf("%+v", s)
	}
	fake.setFailing()
	awaitStates(t, lab, "up up up")
	if s := status(); s.Backends.String() != "3/3 up" || len(s.Down)+len(s.Attention) != 0 {
		t.Errorf("%+v", s)
	}
}

// TestStatusNamesWhatWaitsForARestart: changes that a reload could not make stay in the status
// until the file takes them back or the daemon starts again, also over a change that is not
// confirmed.
func TestStatusNamesWhatWaitsForARestart(t *testing.T) {
	t.Parallel()
	d := newOnDisk(t)
	d.start(with3)
	want := func(when string, restart ...string) {
		t.Helper()
		s := d.status()
		waits := "waits for a restart: " + strings.Join(restart, ", ")
		if strings.Join(s.Restart, "; ") != strings.Join(restart, "; ") ||
			strings.Contains(strings.Join(s.Attention, "\n")+"\n", waits+"\n") != (len(restart) > 0) {
			t.Errorf("%s: %q waits, want %q; attention: %q", when, s.Restart, restart, s.Attention)
		}
	}
	apply := func(text string, confirmS float64) {
		t.Helper()
		if _, err := d.Engine.Apply(bg, api.ApplyRequest{File: api.File{Name: "new.toml", Text: text}, ConfirmS: confirmS}); err != nil {
			t.Fatal(err)
		}
	}
	const batch, adopt = "engine: batch 64 -> 128", "engine: adopt_per_second 100000 -> 7"
	with := func(key, services string) string {
		return strings.Replace(d.Text(services), "[engine]\n", "[engine]\n"+key+"\n", 1)
	}
	want("at first")
	apply(with("batch = 128", with4), 0)
	want("applied", batch)
	if _, err := d.Engine.Reload(bg, api.ReloadOptions{}); err != nil {
		t.Fatal(err)
	}
	want("reloaded", batch)
	apply(with("adopt_per_second = 7", with3), 3600)
	want("to be confirmed", adopt)
	if _, err := d.Engine.Rollback(bg, 0); err != nil {
		t.Fatal(err)
	}
	want("taken back", batch)
	if _, err := d.Engine.Rollback(bg, 1); err != nil {
		t.Fatal(err)
	}
	want("the file has the running keys again")
	apply(with("batch = 128", with3), 0)
	want("applied again", batch)
	d.restart("")
	want("restarted")
}
