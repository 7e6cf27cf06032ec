package engine_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"sluice/engine/api"
	"sluice/engine/enginetest"
)

func planOf(t *testing.T, lab *enginetest.Lab, services string) api.Plan {
	t.Helper()
	p, err := lab.Engine.Plan(bg, api.File{Name: "new.toml", Text: lab.Text(services)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestPlanCountsConnections: those on backends that would go continue, those of a service that
// would go do not, and nothing changes.
func TestPlanCountsConnections(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 1, 1)
	other := svc{name: "other", port: "81", backends: []string{"10.0.0.14:80"}}
	lab.Start(1, config(nat3(), other))
	before := openAll(t, lab, 0, 30)
	p := planOf(t, lab, config(svc{backends: []string{b1 + " 4", b2, "10.0.0.15:80"}}))
	if len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], `service["web"].backend[1].weight: 1 beside 4 has no effect: scheduler rr`) {
		t.Errorf("%q", p.Warnings)
	}
	if p.Connections != 30 || p.Affected != 0 || len(p.Changes) != 4 || len(p.Refused) != 0 || len(p.Services) != 2 {
		t.Errorf("%+v", p)
	}
	web, gone := p.Services[0], p.Services[1]
	if web.Does != api.PlanChange || web.Affected != 0 || web.ClientsMoved != nil || len(web.Backends) != 3 || gone.Does != api.PlanRemove || gone.Name != "other" {
		t.Errorf("%+v", p.Services)
	}
	for i, want := range []api.BackendPlan{
		{Backend: b1, Does: api.PlanChange, Weight: 1, NewWeight: 4, Connections: 10},
		{Backend: "10.0.0.15:80", Does: api.PlanAdd, NewWeight: 1},
		{Backend: b3, Does: api.PlanRemove, Weight: 1, Connections: 10},
	} {
		if web.Backends[i] != want {
			t.Errorf("%+v, want %+v", web.Backends[i], want)
		}
	}
	sameAs(t, before, goOn(t, lab, 0, 30), "")
	if s := list(t, lab); len(s) != 2 {
		t.Errorf("the plan changed something: %+v", s)
	}
	p = planOf(t, lab, config(other))
	if len(p.Refused) != 1 || !strings.Contains(p.Refused[0], "3 of 4 backends") || p.Affected != 30 {
		t.Errorf("%+v", p)
	}
	if p := planOf(t, lab, config(nat3(), other)); len(p.Changes)+len(p.Services) != 0 {
		t.Errorf("nothing changes, and yet %+v", p)
	}
	if _, err := lab.Engine.Plan(bg, api.File{Name: "bad.toml", Text: "bad"}); err == nil || !strings.Contains(err.Error(), "bad.toml:1") {
		t.Error(err)
	}
	p, err := lab.Engine.Plan(bg, api.File{})
	if err != nil || len(p.Changes) != 0 {
		t.Errorf("the daemon's own file: %+v, %v", p, err)
	}
	lab.Write("[api]\nhttp = \"127.0.0.1:9999\"\n" + config(nat3(), other))
	if p, err := lab.Engine.Plan(bg, api.File{}); err != nil || len(p.Restart) != 1 {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestPlanMovesClients: for mh, no more than have to; for sh, most. What the plan says is what a
// daemon with the new file does.
func TestPlanMovesClients(t *testing.T) {
	t.Parallel()
	four := []string{b1, b2, b3, "10.0.0.14:80"}
	for _, c := range []struct {
		sched    string
		from, to []string
		low, top float64
	}{
		{"mh", four[:3], four, 0.24, 0.30},
		{"mh", four, four[:3], 0.24, 0.30},
		{"mh", []string{b3, b2, b1}, four[:3], 0, 0},
		{"mh", four[:2], []string{b1, b2 + " 3"}, 0.2, 0.35},
		{"sh", four[:3], four, 0.5, 0.9},
		{"sh", four[:3], []string{b1, b2, b3 + " 2"}, 0.3, 0.9},
		{"dh", four[:3], []string{b1, b2, b3 + " 2"}, 0, 0},
	} {
		if testing.Short() && len(c.from) != 3 {
			continue
		}
		lab := enginetest.New(t, 1, 1)
		service := svc{sched: c.sched, backends: c.from}
		lab.Start(1, config(service))
		before := openAll(t, lab, 0, 400)
		service.backends = c.to
		p := planOf(t, lab, config(service))
		moved := 0.0
		if len(p.Services) == 1 && p.Services[0].ClientsMoved != nil {
			moved = *p.Services[0].ClientsMoved
		}
		if moved < c.low || moved > c.top {
			t.Errorf("%s %v -> %v: %.3f of the clients move, want %.2f to %.2f", c.sched, c.from, c.to, moved, c.low, c.top)
		}
		lab.Close()
		lab = enginetest.New(t, 1, 1)
		lab.Start(1, config(service))
		elsewhere := 0
		for from, backend := range openAll(t, lab, 0, 400) {
			if before[from] != backend {
				elsewhere++
			}
		}
		if really := float64(elsewhere) / 400; really < moved-0.12 || really > moved+0.12 {
			t.Errorf("%s %v -> %v: the plan says %.3f, %.3f of 400 clients moved", c.sched, c.from, c.to, moved, really)
		}
		lab.Close()
	}
}

// TestPlanOfClientThatHasGone: a plan ends with the request for it.
func TestPlanOfClientThatHasGone(t *testing.T) {
	t.Parallel()
	lab := enginetest.New(t, 1, 1)
	lab.Start(1, config(nat3()))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if p, err := lab.Engine.Plan(ctx, api.File{Name: "new.toml", Text: lab.Text(config(nat3()))}); !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v", p, err)
	}
}
