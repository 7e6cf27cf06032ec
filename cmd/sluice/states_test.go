package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"sluice/cmd/cli"
	"sluice/engine/api"
	"sluice/engine/enginetest"
	"sluice/engine/health"
	"sluice/engine/metrics"
)

// safeBuffer is a log that a test reads while the daemon writes to it.
type safeBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// TestOneFraction: twelve backends that are down are 12/12 down in every command, in the JSON, in
// the alarm, the metrics and the log of a real engine, whether or not they are in use.
func TestOneFraction(t *testing.T) {
	for name, c := range map[string]struct {
		minHealthy int
		state      string
		inUse      int
	}{"all in use": {50, "down (in use)", 12}, "none in use": {0, "down", 0}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lab, log, dead := enginetest.New(t, 1, 1), new(safeBuffer), new(atomic.Bool)
			lab.Log = slog.New(slog.NewTextHandler(log, nil))
			lab.Probe = func(context.Context, health.Check) error {
				if dead.Load() {
					return errors.New("no answer")
				}
				return nil
			}
			lab.Start(1, twelve(c.minHealthy))
			socket := serve(t, lab.Engine)
			run := func(args string, wants ...string) {
				t.Helper()
				_, out, errs := sluice(append(strings.Fields(args), "--socket", socket)...)
				for _, want := range wants {
					if !regexp.MustCompile(want).MatchString(out) {
						t.Errorf("%s: %s is missing in\n%s%s", args, want, out, errs)
					}
				}
			}
			run("list", ` name web 12/12 up\n`)
			run("status", `(?m)^backends +12/12 up$`)

			dead.Store(true)
			lab.Await("all to be down", func() bool {
				services, err := lab.Engine.List(t.Context())
				n := api.CountBackends(services...)
				return err == nil && n.Down == 12 && n.Protected == c.inUse
			})
			note := map[bool]string{true: `12 in use`, false: `new connections are refused`}[c.inUse > 0]
			row := ` 10\.0\.0\.11:8091 .* ` + regexp.QuoteMeta(c.state) + ` +\d+m?s`
			run("list", ` name web 12/12 down \(`+note+`\)\n`, row+` +no answer`)
			run("list --wide", ` name web 12/12 down \(`+note+`\)\n`, row+` +no answer`)
			run("health", `(?m)^web 12/12 down \(`+note+`\)$`, `(?m)^  10\.0\.0\.11:8091 +`+regexp.QuoteMeta(c.state)+` +\d+s +no answer`)
			run("top --once --interval 100ms", `backends 12/12 down`, ` web .* 12/12 down `, `10\.0\.0\.11:8091 +`+regexp.QuoteMeta(c.state)+` `)
			run("status", `(?m)^backends +12/12 down`, `(?m)^ +web 10\.0\.0\.11:8091 +`+regexp.QuoteMeta(c.state)+` +\d+s +no answer`)
			code, out, errs := sluice("status", "-o", "json", "--socket", socket)
			var status api.Status
			if err := json.Unmarshal([]byte(out), &status); err != nil || code != cli.ExitFailed || !strings.Contains(errs, "12/12 down") ||
				status.Backends != (api.BackendCounts{Total: 12, Down: 12, Protected: c.inUse}) || len(status.Down) != 12 || status.Down[11].StateName != c.state {
				t.Errorf("status: exit code %d, %v\n%s%s", code, err, out, errs)
			}
			_, out, _ = sluice("list", "-o", "json", "--socket", socket)
			var services []api.Service
			if err := json.Unmarshal([]byte(out), &services); err != nil || services[0].StateName != "12/12 down" || services[0].StateNote != note ||
				services[0].States != status.Backends || services[0].Backends[11].State != api.StateDown || services[0].Backends[11].StateName != c.state ||
				services[0].Backends[11].Protected != (c.inUse > 0) || !strings.HasPrefix(services[0].Backends[11].Reason, "no answer") {
				t.Errorf("list: %v\n%s", err, out)
			}
			for _, a := range status.Alarms {
				if c.inUse > 0 && !strings.HasPrefix(a.Text, "12/12 backends are down, 12 of them in use, because ") {
					t.Errorf("%+v", a)
				}
			}
			answer := httptest.NewRecorder()
			metrics.New(lab.Engine, metrics.Options{}).Handler().ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
			body, _ := io.ReadAll(answer.Result().Body)
			for _, want := range []string{
				`sluice_service_backends{service="web",state="down"} 12`, `sluice_service_backends{service="web",state="up"} 0`,
				fmt.Sprintf(`sluice_service_backends_protected{service="web"} %d`, c.inUse),
			} {
				if !strings.Contains(string(body), want+"\n") {
					t.Errorf("metrics: %s is missing", want)
				}
			}
			if n := strings.Count(log.String(), "event=backend_down"); n < 12 || !strings.Contains(log.String(), "protected=") {
				t.Errorf("%d backends went down in\n%s", n, log)
			}
		})
	}
}

// twelve is a service of twelve backends, with checks every 10 ms.
func twelve(minHealthy int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `[[service]]
name = "web"
address = "198.51.100.10"
port = 80
protocol = "tcp"
mode = "nat"
scheduler = "rr"
[service.health]
type = "tcp"
interval = "10ms"
timeout = "10ms"
min_healthy = %d
`, minHealthy)
	for i := range 12 {
		fmt.Fprintf(&b, "[[service.backend]]\naddress = \"10.0.0.11\"\nport = %d\n", 8080+i)
	}
	return b.String()
}
