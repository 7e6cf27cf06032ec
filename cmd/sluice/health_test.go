package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/cmd/cli"
	"sluice/engine/api"
	"sluice/engine/api/apitest"
)

// ill is a fake with a service in trouble.
func ill() *apitest.Fake {
	f := apitest.NewFake()
	web := &f.Services[0]
	web.HealthFrozen = true
	for i := range web.Backends {
		web.Backends[i].ConfiguredWeight = web.Backends[i].Weight
		web.Backends[i].StateSinceS = 75
	}
	web.Backends[0].Reason, web.Backends[0].SlowStart = "works again", 0.25
	web.Backends[1].Reason, web.Backends[1].ConfiguredWeight = "an operator set weight 0", 3
	web.Backends[2].Reason, web.Backends[2].LastError, web.Backends[2].Protected = "tcp 10.0.0.12:8081: status 500", "no answer\nwithin 1s", true
	web.Sorry = &api.Backend{Address: "10.0.0.99", Port: api.SinglePort(80), Weight: 1, ConfiguredWeight: 1, Mode: "nat",
		State: api.StateUp, Reason: "no backend is up with a weight above 0"}
	f.AlarmList = []api.Alarm{
		{Kind: api.AlarmFrozen, Text: "all is frozen", SinceS: 5},
		{Kind: api.AlarmProtected, Service: "web", Text: "2 of 3 backends are down", SinceS: 130},
		{Kind: api.AlarmNoBackend, Service: "six", Text: "no backend is up", SinceS: 1},
	}
	web.Alarms = f.AlarmList[1:2]
	return f
}

func TestHealthTable(t *testing.T) {
	f := ill()
	f.Services[1].Backends[0].ConfiguredWeight = 65535
	code, out, errs := sluice("health", "--socket", serve(t, f))
	want := `ALARM all services, for 5s: all is frozen
ALARM web, for 2m10s: 2 of 3 backends are down
ALARM six, for 1s: no backend is up
  BACKEND           STATE         SINCE    WHY
web 1/3 down (1 in use, 1 drain) frozen
  10.0.0.11:8080    up (25%)      1m15s    works again
  10.0.0.12:8080    drain         1m15s    weight 3 in the file; an operator set weight 0
  10.0.0.12:8081    down (in use) 1m15s    tcp 10.0.0.12:8081: status 500; last check: no answer within 1s
  10.0.0.99:80      up            0s       no backend is up with a weight above 0 (sorry server)
six 1/1 up
  [2001:db8::11]:0  up            0s
`
	if diff := cmp.Diff(want, out); code != 0 || errs != "" || diff != "" {
		t.Errorf("exit code %d\n%s%s", code, errs, diff)
	}
	var report healthReport
	code, out, _ = sluice("health", "six", "-o", "json", "--socket", serve(t, f))
	if err := json.Unmarshal([]byte(out), &report); code != 0 || err != nil || len(report.Services) != 1 || len(report.Alarms) != 2 {
		t.Errorf("exit code %d, %v: %s", code, err, out)
	}
}

// TestListShowsTrouble: protection, slow start, freezes, sorry servers and alarms show in list,
// too.
func TestListShowsTrouble(t *testing.T) {
	code, out, _ := sluice("list", "--socket", serve(t, ill()))
	for _, want := range []string{
		" name web 1/3 down (1 in use, 1 drain) frozen\n", " up (25%)\n", " down (in use) 1m15s    tcp 10.0.0.12:8081: status 500; last check: no answer within 1s\n",
		"-> 10.0.0.99:80 ", " up (sorry server)\n", "  !! 2 of 3 backends are down (for 2m10s)\n",
	} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("exit code %d, %q is missing in\n%s", code, want, out)
		}
	}
}

func TestFreezeVerbs(t *testing.T) {
	f := apitest.NewFake()
	f.Frozen = []string{"six", "web"}
	socket := serve(t, f)
	for _, c := range []struct {
		args  string
		calls string
		says  string
	}{
		{"freeze web", `freeze "web" true`, "frozen health: six web\n"},
		{"thaw six", `freeze "six" false`, "frozen health: six web\n"},
		{"freeze", `freeze "" true`, "frozen health: six web\n"},
		{"freeze six -o json", `freeze "six" true`, `"frozen": [`},
		{"freeze 198.51.100.10", `freeze "web" true`, "web"}, // a short form
	} {
		code, out, errs := sluice(append(append([]string{"health"}, strings.Fields(c.args)...), "--socket", socket)...)
		if calls := f.Calls(); code != 0 || calls != c.calls || !strings.Contains(out, c.says) {
			t.Errorf("%s: exit code %d, calls %q, output %q %s", c.args, code, calls, out, errs)
		}
	}
	f.Frozen = nil
	if _, out, _ := sluice("health", "thaw", "--socket", socket); !strings.Contains(out, "frozen health: none") {
		t.Errorf("said %q", out)
	}
	if code, _, errs := sluice("health", "freeze", "unknown", "--socket", socket); code != cli.ExitFailed || !strings.Contains(errs, "web") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	for _, args := range [][]string{{"health", "a", "b"}, {"health", "freeze", "a", "b"}} {
		if code, _, _ := sluice(args...); code != cli.ExitUsage {
			t.Errorf("%v: exit code %d", args, code)
		}
	}
	f.Err = errors.New("the daemon is stopping")
	if code, _, errs := sluice("health", "--socket", socket); code != cli.ExitFailed || !strings.Contains(errs, "stopping") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}
