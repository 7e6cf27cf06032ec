package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"sluice/engine/api"
	"sluice/engine/api/apitest"
)

// halfStuck is a fake of which worker 1 does not answer.
type halfStuck struct{ *apitest.Fake }

var (
	silent  = &api.Unresponsive{Workers: []int{1}}
	applied = &api.Unresponsive{Workers: []int{1}, Applied: true}
)

func (h halfStuck) List(context.Context) ([]api.Service, error) { return h.Services, silent }
func (h halfStuck) Stats(context.Context) (api.Stats, error)    { return h.Statistics, silent }

func (h halfStuck) Conns(context.Context, api.ConnQuery) ([]api.Conn, error) {
	return h.Connections, silent
}

func (h halfStuck) SetWeight(ctx context.Context, service, backend string, weight int) (api.Backend, error) {
	b, err := h.Fake.SetWeight(ctx, service, backend, weight)
	if err == nil {
		err = applied
	}
	return b, err
}

func (h halfStuck) Override(ctx context.Context, r api.OverrideRequest) (api.Backend, error) {
	b, err := h.Fake.Override(ctx, r)
	if err == nil {
		err = applied
	}
	return b, err
}

func (h halfStuck) Reload(context.Context, api.ReloadOptions) (api.ReloadResult, error) {
	return api.ReloadResult{Changes: []string{"service web: added"}}, applied
}

func (h halfStuck) FreezeHealth(context.Context, string, bool) ([]string, error) {
	return []string{"web"}, applied
}

func (h halfStuck) Explain(context.Context, api.Tuple) (api.Explanation, error) {
	return api.Explanation{Verdict: "forwarded"}, silent
}

// TestUnresponsiveWorker checks that every verb prints what the daemon knows, names the worker that
// has not answered, and exits with 1.
func TestUnresponsiveWorker(t *testing.T) {
	socket := serve(t, halfStuck{apitest.NewFake()})
	for _, c := range []struct{ verb, prints, says string }{
		{"list", "10.0.0.11:8080", "worker 1 has not answered"},
		{"list --stats", "10.0.0.11:8080", "worker 1 has not answered"},
		{"list -c", "10.1.1.1:50000", "worker 1 has not answered"},
		{"health", "10.0.0.12", "worker 1 has not answered"},
		{"stats", "no_backend", "worker 1 has not answered"},
		{"conns", "10.1.1.1:50000", "worker 1 has not answered"},
		{"explain tcp 10.1.1.1 198.51.100.10:80", "forwarded", "worker 1 has not answered"},
		{"weight web 10.0.0.11 5", "weight 5", "applied, worker 1 has not taken it up"},
		{"drain web 10.0.0.11:8080", "weight 0", "applied, worker 1 has not taken it up"},
		{"enable web 10.0.0.11:8080", "weight 1", "applied, worker 1 has not taken it up"},
		{"reload", "service web: added", "applied, worker 1 has not taken it up"},
		{"health freeze web", "web", "applied, worker 1 has not taken it up"},
	} {
		code, out, errs := sluice(append(strings.Fields(c.verb), "--socket", socket)...)
		if code != 1 || !strings.Contains(out, c.prints) || !strings.Contains(errs, c.says) {
			t.Errorf("%s: exit code %d\n%s\n%s", c.verb, code, out, errs)
		}
	}
	code, out, _ := sluice("list", "-o", "json", "--socket", socket)
	var services []api.Service
	if err := json.Unmarshal([]byte(out), &services); err != nil || len(services) != 2 || code != 1 {
		t.Errorf("list -o json: exit code %d, %v:\n%s", code, err, out)
	}
}
