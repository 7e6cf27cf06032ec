package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/cmd/cli"
	"sluice/engine/api"
	"sluice/engine/api/apitest"
)

// changeDaemon is a fake daemon with the answers that a test of changes gives.
type changeDaemon struct {
	*apitest.Fake
	status  api.Status
	plan    api.Plan
	applied api.ApplyResult
	got     []any
}

func (c *changeDaemon) Status(context.Context) (api.Status, error) { return c.status, c.Err }

func (c *changeDaemon) Plan(_ context.Context, f api.File) (api.Plan, error) {
	c.got = append(c.got, f)
	return c.plan, c.Err
}

func (c *changeDaemon) Apply(_ context.Context, r api.ApplyRequest) (api.ApplyResult, error) {
	c.got = append(c.got, r)
	return c.applied, c.Err
}

func (c *changeDaemon) Confirm(context.Context) (api.ApplyResult, error) {
	c.got = append(c.got, "confirm")
	return c.applied, c.Err
}

func (c *changeDaemon) Rollback(_ context.Context, n int) (api.ApplyResult, error) {
	c.got = append(c.got, n)
	return c.applied, c.Err
}

func (c *changeDaemon) Generations(context.Context) ([]api.Generation, error) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.Local)
	return []api.Generation{{Number: 8, Loaded: at, Cause: "apply", SHA256: "0123456789abcdef", Running: true},
		{Number: 7, Loaded: at, Cause: "start", SHA256: "fedcba9876543210"}}, c.Err
}

func (c *changeDaemon) Overrides(context.Context) ([]api.Override, error) {
	return c.status.Overrides, c.Err
}

func (c *changeDaemon) ClearOverrides(_ context.Context, service, backend string) ([]api.Override, error) {
	c.got = append(c.got, service+"|"+backend)
	n := min(1, len(c.status.Overrides))
	cleared := c.status.Overrides[:n]
	c.status.Overrides = c.status.Overrides[n:]
	return cleared, c.Err
}

// TestClearOverrides checks that clear shows what it has cleared and what is left, each as that.
func TestClearOverrides(t *testing.T) {
	one := api.Override{Service: "web", Backend: "10.0.0.11:80", State: api.OverrideDrain, Configured: true}
	other := one
	other.Backend = "10.0.0.12:80"
	socket := serve(t, &changeDaemon{Fake: apitest.NewFake(), status: api.Status{Overrides: []api.Override{one, other}}})
	for _, parts := range [][]string{
		{"cleared:\nSERVICE ", "\nweb      10.0.0.11:80  drain", "\nleft:\nSERVICE ", "\nweb      10.0.0.12:80  drain"},
		{"cleared:\nSERVICE ", "\nweb      10.0.0.12:80  drain", "\nleft: none\n"},
		{"cleared: none\nleft: none\n"},
	} {
		code, out, errs := sluice("overrides", "clear", "--all", "--socket", socket)
		rest, found := out, true
		for _, part := range parts {
			_, after, ok := strings.Cut(rest, part)
			rest, found = after, found && ok
		}
		if code != cli.ExitDone || !found {
			t.Errorf("exit code %d: %s\n%s\nwant %q", code, errs, out, parts)
		}
	}
}

func TestStatus(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.Local)
	daemon := &changeDaemon{Fake: apitest.NewFake(), status: api.Status{
		Version: "0.1", UptimeS: 65, Workers: 2, Reload: api.ReloadStatus{OK: true, At: at}, StateDir: "/var/lib/sluice/x",
		Config:   api.ConfigStatus{File: "/etc/sluice/sluice.toml", Generation: 12, Loaded: at, SHA256: "0123456789abcdef", Services: 2, Backends: 4},
		Backends: api.BackendCounts{Total: 4, Up: 4},
	}}
	socket := serve(t, daemon)
	code, out, errs := sluice("status", "--socket", socket)
	want := `version        0.1, up for 1m05s, 2 workers
configuration  /etc/sluice/sluice.toml
               generation 12, loaded 2026-11-23 12:00:00, sha256 0123456789ab, 2 services, 4 backends
last reload    2026-11-23 12:00:00: ok
backends       4/4 up
alarms         none
overrides      none
state          /var/lib/sluice/x
http           off, as configured
`
	if diff := cmp.Diff(want, out); code != cli.ExitDone || errs != "" || diff != "" {
		t.Errorf("exit code %d, %s\n%s", code, errs, diff)
	}

	weight := 3
	daemon.status.Reload = api.ReloadStatus{At: at, Error: "a.toml:3: port 70000\na.toml:9: weight -1"}
	daemon.status.Pending = &api.Pending{Generation: 12, LeftS: 42}
	daemon.status.Alarms = []api.Alarm{{Kind: api.AlarmNoBackend, Service: "web", Text: "no backend is up"}}
	for range 4 {
		daemon.status.Alarms = append(daemon.status.Alarms, api.Alarm{Kind: api.AlarmProtected, Service: "pool", Text: "12/12 down"})
	}
	daemon.status.Overrides = []api.Override{
		{Service: "web", Backend: "10.0.0.11:8080", State: api.OverrideDrain, Deadline: at, Since: at, Configured: true},
		{Service: "udp 1.2.3.4:53", Backend: "10.0.0.12:53", State: api.OverrideWeight, Weight: &weight, Since: at},
	}
	daemon.status.Pressure = []api.Pressure{
		{Service: "web", SinceS: 12, PerSecond: 6012.4, FoundFull: 72000, Displacing: 71890, Refused: 10, Untracked: 100,
			Sources: []api.Source{{Prefix: "203.0.113.0/24", Share: 0.451}, {Prefix: "2001:db8:1::/48", Share: 0.1}}},
		{Service: "dns", SinceS: 3, PerSecond: 3, FoundFull: 9, Displacing: 9},
	}
	daemon.status.FirstPackets = []api.FirstPackets{{Service: "udp", SinceS: 61, PerSecond: 5000.3, Alone: 0.914, Sources: []api.Source{{Prefix: "203.0.113.0/24", Share: 0.5}}}}
	daemon.status.Takeover = &api.Takeover{Connections: 812, Lost: 3, Queues: 2, AwayS: 0.18, Received: 97}
	daemon.status.Restart = []string{"engine: batch 64 -> 128", "added port eth2"}
	daemon.status.Backends = api.BackendCounts{Total: 30, Up: 5, Down: 25, Protected: 1}
	for i := range 25 {
		daemon.status.Down = append(daemon.status.Down, api.DownBackend{Service: "web", Backend: fmt.Sprintf("10.0.0.%d:80", 11+i),
			StateName: "down", SinceS: 75, Why: "no\nanswer"})
	}
	daemon.status.Down[0].StateName = "down (in use)"
	daemon.status.Attention = []string{"the last reload failed", "generation 12 waits"}
	code, out, errs = sluice("status", "--socket", socket)
	if code != cli.ExitFailed || errs != "sluice: the last reload failed\nsluice: generation 12 waits\n" {
		t.Errorf("exit code %d, %s", code, errs)
	}
	for _, text := range []string{"failed: a.toml:3: port 70000\n", "to be confirmed  generation 12, within 42s",
		"\nnext start       engine: batch 64 -> 128\n                 added port eth2\n" +
			"taken over       812 connections, 3 lost; 2 sockets after 0.2 s, with 97 received packets, which were forwarded\n" +
			"backends         25/30 down (1 in use)\n",
		"\n                 web 10.0.0.11:80  down (in use)  1m15s  no answer\n",
		"\n                 web 10.0.0.30:80  down           1m15s  no answer\n                 and 5 more: sluice health lists them\nalarms ",
		"service web: no backend is up\n                 4 times pool_protected, for example service pool: 12/12 down\npressure ",
		"\npressure         web, for 12s: 6012 new connections/s find no free entry: 71890 displaced others, 10 were refused, 100 went untracked; " +
			"from 203.0.113.0/24 (45%), 2001:db8:1::/48 (10%)\n" +
			"                 dns, for 3s: 3 new connections/s find no free entry: 9 displaced others; from many prefixes\n" +
			"first packets    udp, for 1m01s: 5000 new clients/s, 91% of them with one packet only; from 203.0.113.0/24 (50%)\noverrides ", "1 drain, 1 weight: sluice overrides"} {
		if !strings.Contains(out, text) {
			t.Errorf("%q is missing in\n%s", text, out)
		}
	}
	_, out, _ = sluice("overrides", "--socket", socket)
	want = `SERVICE         BACKEND         SET     WEIGHT  DEADLINE  SINCE                IN THE FILE
web             10.0.0.11:8080  drain   -       over      2026-11-23 12:00:00  yes
udp 1.2.3.4:53  10.0.0.12:53    weight  3       -         2026-11-23 12:00:00  no
`
	if diff := cmp.Diff(want, out); diff != "" {
		t.Error(diff)
	}
}

// TestStatusReportsThatHTTPIsNotThere: the address is in use, and then it is free.
func TestStatusReportsThatHTTPIsNotThere(t *testing.T) {
	rival := apitest.Listen(t)
	defer rival.Close()
	address := rival.Addr().String()
	daemon := &changeDaemon{Fake: apitest.NewFake(), status: api.Status{Reload: api.ReloadStatus{OK: true}}}
	server, socket := apitest.Serve(t, daemon)
	server.OpenNetwork(address, api.Access{OpenReads: true})
	code, out, errs := sluice("status", "--socket", socket)
	why := "listen tcp " + address + ": bind: address already in use; trying again every 5s"
	if !strings.Contains(out, "http           nothing answers on "+address+": "+why+"\n") {
		t.Error(out)
	}
	if code != cli.ExitFailed || errs != "sluice: [api] http is not served: no metrics, no page: "+why+"\n" {
		t.Errorf("exit code %d, %s", code, errs)
	}
	var status api.Status
	_, out, _ = sluice("status", "-o", "json", "--socket", socket)
	if err := json.Unmarshal([]byte(out), &status); err != nil || status.HTTP != address || status.HTTPErr != why || len(status.Attention) != 1 {
		t.Errorf("%v: %s", err, out)
	}
	if testing.Short() {
		return // an address in use is tried again after 5 s
	}
	rival.Close()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		code, out, errs = sluice("status", "--socket", socket)
		if code == cli.ExitDone && errs == "" && strings.HasSuffix(out, "http           "+address+"\n") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("exit code %d: %s%s", code, out, errs)
		}
	}
}

func TestPlanTable(t *testing.T) {
	moved := 0.248
	daemon := &changeDaemon{Fake: apitest.NewFake(), plan: api.Plan{
		File: "new.toml", Changes: []string{"service web: added backend 10.0.0.14:80 (nat, weight 1)"}, Restart: []string{"engine: batch 64 -> 32"},
		Refused: []string{"the file removes much"}, Connections: 100, Affected: 25,
		Services: []api.ServicePlan{{Name: "web", Does: api.PlanChange, Connections: 50, Affected: 25, ClientsMoved: &moved, Backends: []api.BackendPlan{
			{Backend: "10.0.0.14:80", Does: api.PlanAdd, NewWeight: 1},
			{Backend: "10.0.0.11:8080", Does: api.PlanRemove, Weight: 1, Connections: 25, Affected: 25},
		}}},
	}}
	socket := serve(t, daemon)
	file := filepath.Join(t.TempDir(), "new.toml")
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := sluice("plan", "--config", file, "--socket", socket)
	want := `would change:
  service web: added backend 10.0.0.14:80 (nat, weight 1)
would change at the next start only:
  engine: batch 64 -> 32
SERVICE           DOES    CONNECTIONS  LOST        CLIENTS MOVED
web               change  50           25 (50.0%)  24.8%
  10.0.0.14:80    add     0                        weight 1
  10.0.0.11:8080  remove  25           25          
25 of 100 connections would lose their backend (25.0%)
a reload would refuse the file unless forced:
  the file removes much
`
	if diff := cmp.Diff(want, out); code != cli.ExitDone || diff != "" {
		t.Errorf("exit code %d, %s\n%s", code, errs, diff)
	}
	daemon.plan = api.Plan{File: "new.toml"}
	if _, out, _ := sluice("plan", "--socket", socket); out != "new.toml is the same as the running configuration\n" {
		t.Error(out)
	}
	if diff := cmp.Diff([]any{api.File{Name: file, Text: "text"}, api.File{}}, daemon.got); diff != "" {
		t.Error(diff)
	}
}

func TestApplyConfirmRollback(t *testing.T) {
	daemon := &changeDaemon{Fake: apitest.NewFake()}
	socket := serve(t, daemon)
	file := filepath.Join(t.TempDir(), "new.toml")
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	sent := api.File{Name: file, Text: "text"}
	daemon.applied = api.ApplyResult{ReloadResult: api.ReloadResult{Changes: []string{"backend added"}}, Generation: 7}
	for _, c := range []struct {
		args []string
		got  any
	}{
		{[]string{"apply", file}, api.ApplyRequest{File: sent}},
		{[]string{"apply", file, "--confirm", "90s", "--force"}, api.ApplyRequest{File: sent, ConfirmS: 90, Force: true}},
		{[]string{"confirm"}, "confirm"},
		{[]string{"rollback"}, 0},
		{[]string{"rollback", "12"}, 12},
		{[]string{"overrides", "clear", "--all"}, "|"},
		{[]string{"overrides", "clear", "web"}, "web|"},
		{[]string{"overrides", "clear", "web", "10.0.0.11"}, "web|10.0.0.11:8080"},
	} {
		daemon.got = nil
		code, out, errs := sluice(append(c.args, "--socket", socket)...)
		if diff := cmp.Diff([]any{c.got}, daemon.got); code != cli.ExitDone || diff != "" {
			t.Errorf("%q: exit code %d: %s%s", c.args, code, errs, diff)
		}
		said := "backend added\ngeneration 7 runs\n"
		if c.args[0] == "confirm" {
			said = "generation 7 confirmed\n"
		}
		if c.args[0] != "overrides" && out != said {
			t.Errorf("%q: %s", c.args, out)
		}
	}
	daemon.applied.Pending = &api.Pending{Generation: 7, Deadline: time.Now().Add(time.Minute), LeftS: 60}
	if _, out, _ := sluice("apply", file, "--confirm", "1m", "--socket", socket); !strings.Contains(out, "generation 7 runs until ") {
		t.Error(out)
	}
	_, out, _ := sluice("rollback", "--list", "--socket", socket)
	want := "N  LOADED               BY     SHA256        \n8  2026-11-23 12:00:00  apply  0123456789ab  runs\n7  2026-11-23 12:00:00  start  fedcba987654  \n"
	if diff := cmp.Diff(want, out); diff != "" {
		t.Error(diff)
	}
	for _, args := range [][]string{
		{"apply"}, {"apply", file, "--confirm", "-1s"}, {"apply", file, "--confirm", "9000h"}, {"rollback", "none"}, {"rollback", "0"},
		{"rollback", "1", "2"}, {"rollback", "1", "--list"}, {"overrides", "clear"}, {"overrides", "clear", "web", "--all"},
		{"overrides", "web"}, {"drain", "web", "10.0.0.11", "--deadline", "-5m"}, {"confirm", "now"}, {"plan", "file"},
	} {
		if code, _, errs := sluice(append(args, "--socket", socket)...); code != cli.ExitUsage {
			t.Errorf("%q: exit code %d, want %d: %s", args, code, cli.ExitUsage, errs)
		}
	}
	for _, args := range [][]string{{"apply", file + ".missing"}, {"plan", "--config", os.DevNull}} {
		if code, _, errs := sluice(append(args, "--socket", socket)...); code != cli.ExitFailed || !strings.Contains(errs, args[len(args)-1]) {
			t.Errorf("%q: exit code %d: %s", args, code, errs)
		}
	}
}

// emptying is a daemon with a backend that loses a connection with every Backend.
type emptying struct {
	*apitest.Fake
	mu       sync.Mutex
	left     uint32 // active
	inactive uint32
	falls    bool // it loses an inactive one, too
}

func (e *emptying) Backend(ctx context.Context, service, backend string) (api.Backend, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	b := &e.Services[0].Backends[0]
	b.Override, b.Active, b.Inactive = api.OverrideDrain, e.left, e.inactive
	out, err := e.Fake.Backend(ctx, service, backend)
	if err == nil && e.falls && e.inactive > 0 {
		e.inactive--
	}
	if err == nil && e.left > 0 {
		e.left--
	}
	return out, err
}

func (e *emptying) Override(ctx context.Context, r api.OverrideRequest) (api.Backend, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	b := &e.Services[0].Backends[0]
	b.Active, b.Inactive = e.left, e.inactive
	return e.Fake.Override(ctx, r)
}

// asked reports whether Backend was called so many times.
func (e *emptying) asked(times uint32) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.left <= 1<<20-times
}

func TestDrainShowsProgress(t *testing.T) {
	if testing.Short() {
		t.Skip("it follows a drain for more than a second")
	}
	t.Parallel()
	socket := serve(t, &emptying{Fake: apitest.NewFake(), left: 4})
	code, out, errs := sluice("drain", "web", "10.0.0.11", "--wait", "--socket", socket)
	if code != cli.ExitDone || !strings.Contains(out, "4 of 4 live connections left\n") || !strings.Contains(out, "web 10.0.0.11:8080: no live connections are left, after ") {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	if code, out, errs := sluice("drain", "web", "10.0.0.11", "--wait", "-o", "json", "--socket", socket); code != cli.ExitDone || !strings.HasPrefix(out, "{\n") {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	// Another command enables it.
	code, _, errs = sluice("drain", "web", "10.0.0.11", "--deadline", "1h", "--socket", serve(t, apitest.NewFake()))
	if code != cli.ExitFailed || !strings.Contains(errs, "was ended by another command") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}

// TestDrainCountsLiveConnections checks that the drain of a TCP backend is done when all
// connections have closed, although they stay in the table, and that those over UDP are live.
func TestDrainCountsLiveConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("it follows two drains for more than a second")
	}
	t.Parallel()
	daemon := &emptying{Fake: apitest.NewFake(), left: 2, inactive: 7}
	socket := serve(t, daemon)
	code, out, errs := sluice("drain", "web", "10.0.0.11", "--wait", "--socket", socket)
	for _, want := range []string{"2 of 2 live connections left, 7 inactive ones expire\n", ": no live connections are left, after ", "; 7 inactive ones expire\n"} {
		if code != cli.ExitDone || !strings.Contains(out, want) {
			t.Errorf("exit code %d, want %q: %s%s", code, want, out, errs)
		}
	}
	daemon = &emptying{Fake: apitest.NewFake(), left: 0, inactive: 3, falls: true}
	daemon.Services[0].Protocol = "udp"
	code, out, errs = sluice("drain", "web", "10.0.0.11", "--wait", "--socket", serve(t, daemon))
	if code != cli.ExitDone || !strings.Contains(out, "3 of 3 live connections left\n") || !strings.Contains(out, ": no live connections are left, after ") || strings.Contains(out, "expire") {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
}

// TestDrainInterrupted checks that an interrupted verb reports that the drain continues.
func TestDrainInterrupted(t *testing.T) {
	daemon := &emptying{Fake: apitest.NewFake(), left: 1 << 20}
	socket := serve(t, daemon)
	code, errs, ended := 0, "", make(chan struct{})
	go func() {
		defer close(ended)
		code, _, errs = sluice("drain", "web", "10.0.0.11", "--deadline", "1h", "--socket", socket)
	}()
	for deadline := time.Now().Add(10 * time.Second); !daemon.asked(3); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no drain was begun")
		}
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	<-ended
	if code != cli.ExitFailed || !strings.Contains(errs, "the drain of web 10.0.0.11:8080 continues, and the daemon ends the remaining connections at ") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}
