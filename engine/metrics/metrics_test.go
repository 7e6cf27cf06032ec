package metrics_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"sluice/engine/api"
	"sluice/engine/metrics"
	"sluice/tools/reference"
)

// daemon answers from its fields.
type daemon struct {
	api.Control
	services []api.Service
	stats    api.Stats
	status   api.Status
	err      error
	asked    atomic.Int64
}

func (d *daemon) List(context.Context) ([]api.Service, error) {
	d.asked.Add(1)
	return d.services, d.err
}
func (d *daemon) Stats(context.Context) (api.Stats, error)   { return d.stats, d.err }
func (d *daemon) Status(context.Context) (api.Status, error) { return d.status, d.err }

// full returns a daemon that has data for every family.
func full() *daemon {
	drops := map[string]uint64{}
	for _, reason := range api.DropReasons() {
		drops[reason.Name] = 0
	}
	drops["no_backend"] = 5
	gaps := make([]uint64, len(api.GapBounds)+1)
	gaps[0], gaps[2], gaps[len(gaps)-1] = 10, 4, 1
	backend := api.Backend{Address: "10.0.0.11", Port: api.SinglePort(8080), Weight: 2, State: api.StateUp, StateSinceS: 60, Active: 3, Inactive: 4,
		Connections: 9, Packets: 100, Bytes: 5000, PacketsOut: 90, BytesOut: 90000}
	down := api.Backend{Address: "2001:db8::12", Port: api.SinglePort(8080), State: api.StateDown, Protected: true}
	return &daemon{
		services: []api.Service{{Name: "web", Limited: map[string]uint64{"connections": 4}, FirstTotal: 900, FoundFull: 40, TableFull: 3, Untracked: 2, Displaced: 35, Unproven: 17, Address: "198.51.100.10", Port: api.SinglePort(80), Protocol: "tcp", Mode: "nat", Scheduler: "wlc",
			Backends: []api.Backend{backend, down}, Sorry: &api.Backend{Address: "10.0.0.99", State: api.StateStandby, Inactive: 1},
			Connections: 10, Packets: 110, Bytes: 6000, PacketsOut: 95, BytesOut: 95000,
			Alarms: []api.Alarm{{Kind: api.AlarmProtected, Service: "web"}}}},
		stats: api.Stats{Version: "1.2", UptimeS: 100, Rx: 105, Forwarded: 97, Replied: 3, Drops: drops,
			Workers: []api.WorkerStats{{Worker: 0, CPU: 3, Rx: 105, BusyS: 25, RunS: 100, GapNs: api.GapNs{Sum: 5e9, Counts: gaps}}},
			Ports:   []api.PortStats{{Name: "eth0", IO: api.IOZeroCopy, Up: true, MTU: 1500, Queues: []api.QueueStats{{Queue: 0, Rx: 105, KernelRxRingFull: 2}}}},
			Frames:  api.FrameStats{Total: 8, Free: 8}, Tables: api.TableStats{ConnectionsV4: 7, Capacity: 1024}},
		status: api.Status{Reload: api.ReloadStatus{OK: true, At: time.Unix(1000, 0)}, Config: api.ConfigStatus{Generation: 4},
			Overrides: []api.Override{{State: api.OverrideDrain}}, Alarms: []api.Alarm{{Kind: api.AlarmProtected, Service: "web"}}},
	}
}

func log() metrics.LogCounts {
	return metrics.LogCounts{Events: map[string]uint64{"backend_down": 2}, Suppressed: 7, Dropped: 8}
}

func TestPromlintIsSilent(t *testing.T) {
	problems, err := testutil.CollectAndLint(metrics.New(full(), metrics.Options{Backends: true, Log: log}))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestValues(t *testing.T) {
	text := scrape(t, metrics.New(full(), metrics.Options{Backends: true, Log: log}))
	for _, line := range []string{
		`sluice_packets_received_total 105`, `sluice_drops_total{reason="no_backend"} 5`, `sluice_drops_total{reason="table_full"} 0`,
		`sluice_connections{family="ipv4"} 7`, `sluice_connections_capacity 1024`,
		`sluice_worker_busy_seconds_total{cpu="3",worker="0"} 25`, `sluice_worker_busy_ratio{cpu="3",worker="0"} 0.25`,
		`sluice_worker_turn_gap_seconds_bucket{cpu="3",worker="0",le="1.024e-06"} 10`, `sluice_worker_turn_gap_seconds_bucket{cpu="3",worker="0",le="1.6384e-05"} 14`,
		`sluice_worker_turn_gap_seconds_bucket{cpu="3",worker="0",le="4.294967296"} 14`, `sluice_worker_turn_gap_seconds_count{cpu="3",worker="0"} 15`,
		`sluice_worker_turn_gap_seconds_sum{cpu="3",worker="0"} 5`,
		`sluice_port_info{io="zerocopy",port="eth0"} 1`, `sluice_queue_kernel_events_total{event="rx_ring_full",port="eth0",queue="0"} 2`,
		`sluice_service_packets_total{direction="in",service="web"} 110`, `sluice_service_bytes_total{direction="out",service="web"} 95000`,
		`sluice_service_backends{service="web",state="up"} 1`, `sluice_service_backends{service="web",state="down"} 1`, `sluice_service_backends{service="web",state="drain"} 0`,
		`sluice_service_connections{service="web",state="inactive"} 5`, `sluice_service_alarm{kind="pool_protected",service="web"} 1`,
		`sluice_service_first_packets_total{service="web"} 900`, `sluice_alarms{kind="syn_flood"} 0`,
		`sluice_service_found_full_total{service="web"} 40`, `sluice_service_table_full_total{service="web"} 3`, `sluice_service_untracked_total{service="web"} 2`,
		`sluice_service_displaced_total{service="web"} 35`, `sluice_service_unproven_connections{service="web"} 17`, `sluice_alarms{kind="pressure"} 0`,
		`sluice_backend_up{backend="10.0.0.11:8080",service="web"} 1`, `sluice_backend_up{backend="[2001:db8::12]:8080",service="web"} 0`,
		`sluice_backend_protected{backend="[2001:db8::12]:8080",service="web"} 1`, `sluice_backend_packets_total{backend="10.0.0.11:8080",direction="out",service="web"} 90`,
		`sluice_config_last_reload_successful 1`, `sluice_config_last_reload_timestamp_seconds 1000`, `sluice_config_generation 4`,
		`sluice_overrides{state="drain"} 1`, `sluice_overrides{state="weight"} 0`, `sluice_alarms{kind="pool_protected"} 1`, `sluice_alarms{kind="no_backend"} 0`,
		`sluice_events_total{event="backend_down"} 2`, `sluice_log_suppressed_total 7`, `sluice_log_dropped_total 8`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// TestEveryFamilyIsCollected checks that every family has series, and that everything scraped is in
// a family.
func TestEveryFamilyIsCollected(t *testing.T) {
	have := names(t, scrape(t, metrics.New(full(), metrics.Options{Backends: true, Log: log})))
	for _, f := range metrics.Families {
		if !slices.Contains(have, f.Name) {
			t.Error(f.Name, "has no series")
		}
	}
	for _, name := range have {
		if strings.HasPrefix(name, "sluice_") && !slices.ContainsFunc(metrics.Families, func(f *metrics.Family) bool { return f.Name == name }) {
			t.Error(name, "is not in Families")
		}
	}
}

func TestBackendsCanBeLeftOut(t *testing.T) {
	for _, name := range names(t, scrape(t, metrics.New(full(), metrics.Options{}))) {
		if strings.HasPrefix(name, "sluice_backend_") {
			t.Error(name)
		}
	}
}

// TestFailureFailsTheScrape checks that a daemon that does not answer makes the whole scrape fail.
func TestFailureFailsTheScrape(t *testing.T) {
	d := full()
	d.err = errors.New("the daemon is stopping")
	response := httptest.NewRecorder()
	metrics.New(d, metrics.Options{}).Handler().ServeHTTP(response, httptest.NewRequest("GET", "/metrics", nil))
	if response.Code != 500 || !strings.Contains(response.Body.String(), "stopping") {
		t.Error(response.Code, response.Body)
	}
}

func TestScrapesShareAnAnswer(t *testing.T) {
	d := full()
	exporter := metrics.New(d, metrics.Options{Backends: true})
	began := time.Now()
	for range 20 {
		scrape(t, exporter)
	}
	if asked := d.asked.Load(); asked > 1+int64(time.Since(began)/time.Second) {
		t.Errorf("asked %d times in %v", asked, time.Since(began))
	}
}

func TestManyBackends(t *testing.T) {
	d := full()
	for i := range 10_000 {
		d.services[0].Backends = append(d.services[0].Backends, api.Backend{Address: fmt.Sprintf("10.1.%d.%d", i/250, i%250), Port: api.SinglePort(80), State: api.StateUp})
	}
	if n := testutil.CollectAndCount(metrics.New(d, metrics.Options{Backends: true}), "sluice_backend_up"); n != 10_003 {
		t.Error(n)
	}
}

// TestAlertsAndDashboardFitTheMetrics checks that alerts and dashboard use existing metrics and
// labels.
func TestAlertsAndDashboardFitTheMetrics(t *testing.T) {
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
		Templating struct{ List []struct{ Definition string } }
	}
	if err := json.Unmarshal(content(t, "sluice-dashboard.json"), &dashboard); err != nil {
		t.Fatal(err)
	}
	exprs := map[string]string{}
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			exprs["panel "+p.Title] += target.Expr + "\n"
		}
	}
	for i, v := range dashboard.Templating.List {
		exprs[fmt.Sprint("variable ", i)] = v.Definition
	}
	for alert, expr := range alertExprs(t) {
		exprs["alert "+alert] = expr
	}
	if len(exprs) < 25 {
		t.Fatalf("only %d expressions", len(exprs))
	}
	for where, expr := range exprs {
		for _, problem := range unknownNames(expr) {
			t.Errorf("%s: %s in %s", where, problem, expr)
		}
	}
	if problems := unknownNames(`rate(sluice_nothing_total{a="b"}[1m]) + sluice_drops_total{why="x"} (`); len(problems) != 3 {
		t.Error("the test is blind:", problems)
	}
}

var (
	selector = regexp.MustCompile(`\b(sluice_[a-z0-9_]+)(?:\{([^}]*)\})?`)
	label    = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)\s*"`)
	reason   = regexp.MustCompile(`\breason="([a-z_]+)"`)
)

// unknownNames lists what a PromQL expression uses that the metrics do not have.
func unknownNames(expr string) (problems []string) {
	if strings.Count(expr, "(") != strings.Count(expr, ")") || strings.Count(expr, "{") != strings.Count(expr, "}") {
		problems = append(problems, "brackets don't match")
	}
	for _, m := range selector.FindAllStringSubmatch(expr, -1) {
		f := findFamily(m[1])
		if f == nil {
			problems = append(problems, m[1]+" does not exist")
			continue
		}
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			if l[1] != "instance" && l[1] != "le" && !slices.Contains(f.Labels, l[1]) {
				problems = append(problems, f.Name+" has no label "+l[1])
			}
		}
	}
	for _, m := range reason.FindAllStringSubmatch(expr, -1) {
		if !slices.ContainsFunc(api.DropReasons(), func(r api.DropReason) bool { return r.Name == m[1] }) {
			problems = append(problems, "no drop reason "+m[1])
		}
	}
	return problems
}

func findFamily(name string) *metrics.Family {
	for _, f := range metrics.Families {
		if f.Name == name || f.Type == "histogram" && slices.Contains([]string{f.Name + "_bucket", f.Name + "_sum", f.Name + "_count"}, name) {
			return f
		}
	}
	return nil
}

// TestReference checks that README.md is current.
func TestReference(t *testing.T) { reference.Rest(t, markdown()) }

func scrape(t *testing.T, exporter *metrics.Exporter) string {
	t.Helper()
	response := httptest.NewRecorder()
	exporter.Handler().ServeHTTP(response, httptest.NewRequest("GET", "/metrics", nil))
	if response.Code != 200 {
		t.Fatal(response.Code, response.Body)
	}
	return response.Body.String()
}

// names parses a scrape as Prometheus does.
func names(t *testing.T, text string) (all []string) {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for name := range families {
		all = append(all, name)
	}
	return all
}

var _ prometheus.Collector = (*metrics.Exporter)(nil)

// markdown returns Families in Markdown. README.md ends with it.
func markdown() string {
	var b strings.Builder
	b.WriteString("| metric | type | labels | meaning |\n|---|---|---|---|\n")
	for _, f := range metrics.Families {
		labels := ""
		if len(f.Labels) > 0 {
			labels = "`" + strings.Join(f.Labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.Name, f.Type, labels, strings.ReplaceAll(f.Help, "|", `\|`))
	}
	return b.String()
}

// content returns the content of a file of this package.
func content(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
