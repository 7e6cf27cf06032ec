package main

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/cmd/cli"
	"sluice/engine/api"
	"sluice/engine/api/apitest"
)

func TestListTable(t *testing.T) {
	code, out, errs := sluice("list", "--socket", serve(t, apitest.NewFake()))
	want := `Sluice Virtual Server version 0.1.0-dev (services=2 backends=4)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn  State Since    Why
TCP  198.51.100.10:80 wlc persistent 300 name web 1/3 down (1 drain)
  -> 10.0.0.11:8080               Masq    1      3          14         up
  -> 10.0.0.12:8080               Tunnel  0      0          0          drain 0s
  -> 10.0.0.12:8081               Route   2      0          0          down  0s
UDP  [2001:db8::10]:8000-8099 mh name six 1/1 up
  -> [2001:db8::11]:0             FullNat 65535  0          0          up
`
	if diff := cmp.Diff(want, out); code != 0 || errs != "" || diff != "" {
		t.Errorf("exit code %d\n%s%s", code, errs, diff)
	}
}

func TestListStats(t *testing.T) {
	_, out, _ := sluice("list", "--stats", "--socket", serve(t, apitest.NewFake()))
	want := `Sluice Virtual Server version 0.1.0-dev (services=2 backends=4)
Prot LocalAddress:Port                 Conns       InPkts      OutPkts         InBytes        OutBytes
  -> RemoteAddress:Port
TCP  198.51.100.10:80                     50          400          350           30000         1000000
  -> 10.0.0.11:8080                       30          300          250           20000          900000
`
	if !strings.HasPrefix(out, want) {
		t.Error(cmp.Diff(want, out))
	}
}

func TestListRateIsGrowthPerSecond(t *testing.T) {
	before, after := apitest.NewFake().Services, apitest.NewFake().Services
	after[0].Packets += 3000
	after[0].Backends[0].Bytes += 500
	after[0].Backends[0].Connections = 0 // another daemon: no rate, and no huge number
	rates := api.RatesOf(before, after, 2*time.Second)
	var out strings.Builder
	if err := rateTable(&out, after, rates); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Prot LocalAddress:Port                   CPS        InPPS       OutPPS           InBPS          OutBPS\n",
		"TCP  198.51.100.10:80                      0         1500            0               0               0\n",
		"  -> 10.0.0.11:8080                        0            0            0             250               0\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
	socket := serve(t, apitest.NewFake())
	if code, table, errs := sluice("list", "--rate", "--interval", "1ms", "--socket", socket); code != 0 || !strings.Contains(table, "InPPS") {
		t.Errorf("exit code %d: %s%s", code, table, errs)
	}
	_, text, _ := sluice("list", "--rate", "--interval", "1ms", "-o", "json", "--socket", socket)
	var services []struct {
		Name     string
		Rate     *api.Rate
		Backends []struct {
			State string
			Rate  *api.Rate
		}
	}
	if err := json.Unmarshal([]byte(text), &services); err != nil || len(services) != 2 || services[0].Name != "web" || services[0].Rate == nil ||
		len(services[0].Backends) != 3 || services[0].Backends[2].State != "down" || services[0].Backends[0].Rate == nil {
		t.Error(err, text)
	}
}

func TestListSaysSinceWhenAndWhy(t *testing.T) {
	daemon := apitest.NewFake()
	down := &daemon.Services[0].Backends[2]
	down.StateSinceS, down.LastError, down.ConfiguredWeight = 134, "tcp: connection\r\n\x1b[31mrefused", 3
	socket := serve(t, daemon)
	_, out, _ := sluice("list", "--socket", socket)
	if want := "10.0.0.12:8081               Route   2      0          0          down  2m14s    last check: tcp: connection [31mrefused\n"; !strings.Contains(out, want) {
		t.Errorf("%q is missing in\n%s", want, out)
	}
	_, out, _ = sluice("list", "--wide", "--socket", socket)
	for _, want := range []string{
		" InActConn  State Since    Why\n",
		" down  2m14s    weight 3 in the file; last check: tcp: connection [31mrefused\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
}

// TestListNamesStates: a backend that is down and protected has the name that every other view
// gives it, in both tables.
func TestListNamesStates(t *testing.T) {
	socket := serve(t, ill())
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"list"}, " down (in use) 1m15s    "},
		{[]string{"list", "--wide"}, " down (in use) 1m15s    "},
		{[]string{"list", "--wide"}, " State         Since    Why\n"},
	} {
		if _, out, _ := sluice(append(c.args, "--socket", socket)...); !strings.Contains(out, c.want) {
			t.Errorf("%v: %q is missing in\n%s", c.args, c.want, out)
		}
	}
}

// TestOneNamePerState: all commands, and the answers that the page shows, give the state of a
// backend one name.
func TestOneNamePerState(t *testing.T) {
	daemon := ill()
	six := &daemon.Services[1]
	six.Backends = append(six.Backends, api.Backend{Address: "2001:db8::12", Port: api.SinglePort(80), Mode: "tun", State: api.StateDown})
	socket := serve(t, topDaemon{daemon})
	services, err := api.NewClient(socket).List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	told := make(map[string]bool)
	for _, args := range []string{"list", "list --wide", "health", "top --once --interval 100ms"} {
		_, out, errs := sluice(append(strings.Fields(args), "--socket", socket)...)
		for _, s := range services {
			servers := serversOf(s)
			if strings.HasPrefix(args, "top") {
				servers = s.Backends
			}
			for _, b := range servers {
				told[b.StateName] = true
				line := regexp.MustCompile(`(?m)^[ >-]*` + regexp.QuoteMeta(b.Endpoint()) + ` .*$`).FindString(out)
				if !regexp.MustCompile(` `+regexp.QuoteMeta(b.StateName)+`( |$)`).MatchString(line) ||
					strings.Contains(b.StateName, "in use") != strings.Contains(line, "in use") {
					t.Errorf("%s: %q, want state %q\n%s%s", args, line, b.StateName, out, errs)
				}
			}
		}
	}
	for _, name := range []string{"up", "up (25%)", "down", "down (in use)", "drain"} {
		if !told[name] {
			t.Errorf("no backend is %s: the test proves nothing", name)
		}
	}
}

func TestListJSONIsTheContract(t *testing.T) {
	code, out, _ := sluice("list", "-o", "json", "--socket", serve(t, apitest.NewFake()))
	var services []map[string]any
	if err := json.Unmarshal([]byte(out), &services); code != 0 || err != nil {
		t.Fatal(code, err)
	}
	pick := func(from map[string]any, names ...string) (values []any) {
		for _, name := range names {
			values = append(values, from[name])
		}
		return values
	}
	want := []any{"web", "198.51.100.10", 80.0, "tcp", "nat", "wlc"}
	if diff := cmp.Diff(want, pick(services[0], "name", "address", "port", "protocol", "mode", "scheduler")); diff != "" {
		t.Error(diff)
	}
	backend := services[0]["backends"].([]any)[0].(map[string]any)
	want = []any{"10.0.0.11", 8080.0, 1.0, "nat", "up", 3.0, 14.0, 300.0, 20000.0, 30.0}
	if diff := cmp.Diff(want, pick(backend, "address", "port", "weight", "mode", "state", "active", "inactive", "packets", "bytes", "connections")); diff != "" {
		t.Error(diff)
	}
}

func TestConns(t *testing.T) {
	daemon := apitest.NewFake()
	socket := serve(t, daemon)
	_, out, _ := sluice("conns", "--socket", socket, "--service", "tcp 198.51.100.10:80", "--client", "10.1.1.1",
		"--backend", "10.0.0.11:8080", "--state", "established", "--limit", "5")
	want := `Sluice connection entries
pro expire state       source             virtual            destination
TCP 14:57  ESTABLISHED 10.1.1.1:50000     198.51.100.10:80   10.0.0.11:8080
`
	if diff := cmp.Diff(want, out); diff != "" {
		t.Error(diff)
	}
	for _, args := range [][]string{{"conns", "-n"}, {"list", "-c"}, {"list", "-cn"}} {
		if _, again, errs := sluice(append(args, "--socket", socket)...); again != want {
			t.Error(args, cmp.Diff(want, again), errs)
		}
	}
	if got := daemon.Calls(); got != "conns web|10.1.1.1|10.0.0.11:8080|ESTABLISHED|5"+strings.Repeat("; conns ||||0", 3) {
		t.Error(got)
	}
	_, out, _ = sluice("conns", "--socket", socket, "-o", "json")
	var conns []api.Conn
	if err := json.Unmarshal([]byte(out), &conns); err != nil || cmp.Diff(daemon.Connections, conns) != "" {
		t.Error(err, out)
	}
}

func TestStats(t *testing.T) {
	daemon := apitest.NewFake()
	socket := serve(t, daemon)
	_, out, _ := sluice("stats", "--socket", socket)
	for _, want := range []string{
		"sluice 0.1, up 1h2m3s\n",
		"packets      rx 100 = forwarded 90 + replied 3 + to the kernel 0 + dropped 7\n",
		"connections  v4 1 + v6 0 of 1048576\n",
		"frames       total 4096 = free 2048 + fill 2048 + rx 0 + tx 0 + completion 0 + in flight 0\n",
		"             5  no_backend       service has no usable backend\n",
		"             2  ttl_expired      TTL or hop limit ran out\n",
		"port eth0: io zerocopy, link up, mtu 1500\n",
		"port eth1: io generic, link down, mtu 0\n",
		" 25.0%\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if strings.Contains(out, "short") || strings.Contains(out, "in progress") {
		t.Error("a reason that never happened, or packets in progress without any:\n", out)
	}
	if _, out, _ := sluice("stats", "--all", "--socket", socket); !strings.Contains(out, "0  short ") {
		t.Error("--all does not show a reason that never happened:\n", out)
	}
	_, out, _ = sluice("stats", "-o", "json", "--socket", socket)
	var stats api.Stats
	if err := json.Unmarshal([]byte(out), &stats); err != nil || cmp.Diff(daemon.Statistics, stats) != "" {
		t.Error(err, out)
	}
}

func TestWeightAndDrain(t *testing.T) {
	daemon := apitest.NewFake()
	socket := serve(t, daemon)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"weight", "web", "10.0.0.11:8080", "7"}, "weight web 10.0.0.11:8080 7"},
		{[]string{"weight", "tcp 198.51.100.10:80", "10.0.0.11", "65535"}, "weight web 10.0.0.11:8080 65535"},
		{[]string{"drain", "web", "10.0.0.11"}, "drain web 10.0.0.11:8080 0"},
		{[]string{"drain", "web", "10.0.0.11", "--deadline", "5m", "--wait=false"}, "drain web 10.0.0.11:8080 300"},
		{[]string{"disable", "web", "10.0.0.11"}, "disable web 10.0.0.11:8080 0"},
		{[]string{"enable", "web", "10.0.0.11"}, "enable web 10.0.0.11:8080 0"},
	} {
		if code, _, errs := sluice(append(c.args, "--socket", socket)...); code != 0 || daemon.Calls() != c.want {
			t.Errorf("%q: exit code %d, %s", c.args, code, errs)
		}
	}
	_, out, _ := sluice("drain", "web", "10.0.0.11", "--socket", socket)
	if want := "web 10.0.0.11:8080: weight 0 (file: 1), state drain, 3 active and 14 inactive connections\n"; out != want {
		t.Error(out)
	}
	_, out, _ = sluice("drain", "web", "10.0.0.11", "--socket", socket, "-o", "json")
	var b api.Backend
	if err := json.Unmarshal([]byte(out), &b); err != nil || b.State != api.StateDrain {
		t.Error(err, out)
	}
}

// TestWeightWithoutEffect: a note about the weight is on stderr, or a field; the order was obeyed
// all the same.
func TestWeightWithoutEffect(t *testing.T) {
	daemon := apitest.NewFake()
	daemon.Remark = "the scheduler takes all weights for the same"
	socket := serve(t, daemon)
	code, out, errs := sluice("weight", "web", "10.0.0.11", "7", "--socket", socket)
	if code != cli.ExitDone || errs != "sluice: note: "+daemon.Remark+"\n" || !strings.HasPrefix(out, "web 10.0.0.11:8080: weight 7 ") || strings.Count(out, "\n") != 1 {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	code, out, errs = sluice("weight", "web", "10.0.0.11", "7", "-o", "json", "--socket", socket)
	var b api.Backend
	if err := json.Unmarshal([]byte(out), &b); code != cli.ExitDone || errs != "" || err != nil || b.Note != daemon.Remark {
		t.Errorf("exit code %d, %v: %s%s", code, err, out, errs)
	}
}

func TestReload(t *testing.T) {
	daemon := apitest.NewFake()
	socket := serve(t, daemon)
	if _, out, _ := sluice("reload", "--socket", socket); out != "nothing changed\n" {
		t.Error(out)
	}
	daemon.ReloadResult = api.ReloadResult{Changes: []string{"backend added"}, Warnings: []string{"cores need a restart"}}
	if _, out, _ := sluice("reload", "--socket", socket); out != "backend added\nwarning: cores need a restart\n" {
		t.Error(out)
	}
	daemon.Err = errors.Join(errors.New("a.toml:3: port 70000"), errors.New("a.toml:9: weight -1"))
	code, out, errs := sluice("reload", "--socket", socket)
	if code != 1 || out != "" || errs != "sluice: a.toml:3: port 70000\nsluice: a.toml:9: weight -1\n" {
		t.Errorf("%d %q %q", code, out, errs)
	}
}

func TestVersion(t *testing.T) {
	if code, out, _ := sluice("version"); code != 0 || !strings.HasPrefix(out, "sluice "+version+" (") {
		t.Error(code, out)
	}
	_, out, _ := sluice("version", "-o", "json")
	var b build
	if err := json.Unmarshal([]byte(out), &b); err != nil || b.Version != version {
		t.Error(err, out)
	}
}

func TestExitCodes(t *testing.T) {
	socket := serve(t, apitest.NewFake())
	unused := filepath.Join(t.TempDir(), "unused.sock")
	missing := filepath.Join(t.TempDir(), "missing.toml")
	for _, c := range []struct {
		args []string
		code int
		says string // on stderr
	}{
		{[]string{"list", "--socket", socket}, cli.ExitDone, ""},
		{[]string{"--help"}, cli.ExitDone, ""},
		{[]string{"drain", "--help"}, cli.ExitDone, ""},

		{[]string{"list", "--socket", unused}, cli.ExitFailed, "sluice: no sluice answers on " + unused + ": start it, or set --socket\n"},
		{[]string{"conns", "--socket", unused}, cli.ExitFailed, "no sluice answers"},
		{[]string{"stats", "--socket", unused}, cli.ExitFailed, "no sluice answers"},
		{[]string{"reload", "--socket", unused}, cli.ExitFailed, "no sluice answers"},
		{[]string{"drain", "--socket", unused, "web", "10.0.0.11"}, cli.ExitFailed, "no sluice answers"},
		{[]string{"weight", "--socket", unused, "web", "10.0.0.11", "1"}, cli.ExitFailed, "no sluice answers"},
		{[]string{"drain", "--socket", socket, "wbe", "10.0.0.11"}, cli.ExitFailed, `sluice: no service "wbe": must be one of web, six`},
		{[]string{"drain", "--socket", socket, "web", "10.0.0.1"}, cli.ExitFailed, `sluice: service "web" has no backend "10.0.0.1": must be one of 10.0.0.11:8080`},
		{[]string{"drain", "--socket", socket, "web", "10.0.0.12"}, cli.ExitFailed, "is ambiguous: must be one of"},
		{[]string{"conns", "--socket", socket, "--service", "wbe"}, cli.ExitFailed, "no service"},
		{[]string{"check", "--config", missing}, cli.ExitFailed, missing},
		{[]string{"run", "--config", missing}, cli.ExitFailed, missing},

		{[]string{}, cli.ExitUsage, "missing command: must be one of access, apply, capture, check, completion, confirm, conns, "},
		{[]string{"lst"}, cli.ExitUsage, `unknown command "lst": must be one of access, apply, capture, check, completion, confirm, conns, `},
		{[]string{"--nonsense"}, cli.ExitUsage, "unknown flag"},
		{[]string{"list", "--nonsense"}, cli.ExitUsage, "sluice: see sluice list --help\n"},
		{[]string{"list", "more"}, cli.ExitUsage, "list takes no arguments"},
		{[]string{"list", "-o", "xml"}, cli.ExitUsage, "not one of table, json"},
		{[]string{"list", "--stats", "--rate"}, cli.ExitUsage, "exclude each other"},
		{[]string{"list", "-c", "-n", "--wide", "--socket", socket}, cli.ExitUsage, "--connection and --wide exclude each other"},
		{[]string{"list", "--interval", "2s"}, cli.ExitUsage, "--interval needs --rate"},
		{[]string{"list", "--rate", "--interval", "0s"}, cli.ExitUsage, "must be more than 0"},
		{[]string{"list", "--stats", "-n", "--exact", "--socket", socket}, cli.ExitDone, ""},
		{[]string{"conns", "--limit", "many"}, cli.ExitUsage, "invalid argument"},
		{[]string{"conns", "--limit", "-1"}, cli.ExitUsage, "less than 0"},
		{[]string{"drain", "web"}, cli.ExitUsage, "drain takes SERVICE BACKEND: 1 given"},
		{[]string{"weight", "web", "10.0.0.11"}, cli.ExitUsage, "weight takes SERVICE BACKEND N: 2 given"},
		{[]string{"weight", "web", "10.0.0.11", "heavy"}, cli.ExitUsage, `weight "heavy": must be a number from 0 to 65535`},
		{[]string{"weight", "web", "10.0.0.11", "65536"}, cli.ExitUsage, "from 0 to 65535"},
		{[]string{"weight", "web", "10.0.0.11", "--", "-1"}, cli.ExitUsage, "from 0 to 65535"},
		{[]string{"check", "a.toml", "b.toml"}, cli.ExitUsage, "check takes one FILE: 2 given"},
		{[]string{"run", "--log-level", "loud"}, cli.ExitUsage, "not one of DEBUG, INFO, WARN, ERROR"},
		{[]string{"run", "extra"}, cli.ExitUsage, "run takes no arguments"},
		{[]string{"version", "-o", "yaml"}, cli.ExitUsage, "not one of table, json"},
	} {
		code, _, errs := sluice(c.args...)
		if code != c.code || !strings.Contains(errs, c.says) {
			t.Errorf("%q: exit code %d, want %d; stderr: %s", c.args, code, c.code, errs)
		}
		for line := range strings.Lines(errs) {
			if !strings.HasPrefix(line, "sluice: ") {
				t.Errorf("%q: a line on stderr without the name of the program: %s", c.args, line)
			}
		}
	}
}
