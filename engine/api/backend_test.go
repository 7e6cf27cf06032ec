package api_test

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"sluice/engine/api"
	"sluice/engine/api/apitest"
)

// lists counts what it is asked for.
type lists struct {
	*apitest.Fake
	all, one atomic.Uint64
}

func (l *lists) List(ctx context.Context) ([]api.Service, error) {
	l.all.Add(1)
	return l.Fake.List(ctx)
}

func (l *lists) Backend(ctx context.Context, service, backend string) (api.Backend, error) {
	l.one.Add(1)
	return l.Fake.Backend(ctx, service, backend)
}

func (l *lists) Override(context.Context, api.OverrideRequest) (api.Backend, error) {
	return l.Services[0].Backends[0], nil
}

// TestBackendOverHTTP: GET /v1/backend returns one backend, by every form of its name, and errors
// that name what is allowed.
func TestBackendOverHTTP(t *testing.T) {
	socket, client := start(t, lab())
	for _, c := range []struct {
		service, backend string
		status           int
		want             string // endpoint, or a part of the error
	}{
		{"web", "10.0.0.11:8080", 200, "10.0.0.11:8080"},
		{"web", "10.0.0.11", 200, "10.0.0.11:8080"},
		{"tcp 198.51.100.10:80", "10.0.0.12:8081", 200, "10.0.0.12:8081"},
		{"six", "[2001:DB8::11]", 200, "[2001:db8::11]:0"},
		{"nope", "10.0.0.11", 404, "web"},
		{"web", "10.0.0.13", 404, "10.0.0.12:8081"},
		{"web", "10.0.0.12", 400, "10.0.0.12:8080"},
		{"web", "", 400, "backend"},
		{"", "10.0.0.11", 400, "service"},
	} {
		values := url.Values{}
		for name, value := range map[string]string{"service": c.service, "backend": c.backend} {
			if value != "" {
				values.Set(name, value)
			}
		}
		status, body := raw(t, socket, "GET", "/v1/backend?"+values.Encode(), "")
		if status != c.status || status != 200 && !strings.Contains(body, c.want) {
			t.Errorf("%s, %s: status %d %s, want %d with %q", c.service, c.backend, status, body, c.status, c.want)
		}
		if c.status != 200 {
			continue
		}
		var b api.Backend
		if err := json.Unmarshal([]byte(body), &b); err != nil || b.Endpoint() != c.want {
			t.Errorf("%s, %s: %s, %v, want %s", c.service, c.backend, body, err, c.want)
		}
		if again, err := client.Backend(t.Context(), c.service, c.backend); err != nil || again != b {
			t.Errorf("%s, %s: the client returns %+v, %v", c.service, c.backend, again, err)
		}
	}
	if status, _ := raw(t, socket, "POST", "/v1/backend", ""); status != 405 {
		t.Errorf("POST: status %d", status)
	}
}

// TestChangesDoNotListAll: a request about one backend by the daemon's own names, such as a drain
// and each of the requests that await its end, asks for nothing else.
func TestChangesDoNotListAll(t *testing.T) {
	daemon := &lists{Fake: lab()}
	_, client := start(t, daemon)
	for name, request := range map[string]func(context.Context) error{
		"backend": func(ctx context.Context) error {
			_, err := client.Backend(ctx, "web", "10.0.0.11:8080")
			return err
		},
		"weight": func(ctx context.Context) error {
			_, err := client.SetWeight(ctx, "web", "10.0.0.11:8080", 0)
			return err
		},
		"drain": func(ctx context.Context) error {
			_, err := client.Override(ctx, api.OverrideRequest{Service: "web", Backend: "10.0.0.11:8080", State: api.OverrideDrain})
			return err
		},
	} {
		daemon.all.Store(0)
		daemon.one.Store(0)
		if err := request(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if all, one := daemon.all.Load(), daemon.one.Load(); all != 0 || name != "backend" && one != 0 {
			t.Errorf("%s: %d lists of all services and %d descriptions of a backend", name, all, one)
		}
	}
}
