package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"sluice/tools/chart"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0},
		{[]float64{3}, 3},
		{[]float64{5, 1, 3}, 3},
		{[]float64{4, 1, 2, 9}, 3},
	} {
		if got := Median(c.values); got != c.want {
			t.Errorf("Median(%v) = %v, want %v", c.values, got, c.want)
		}
	}
	values := []float64{3, 1, 2}
	Median(values)
	if values[0] != 3 {
		t.Error("Median changes the order of what it is given")
	}
}

func TestRound(t *testing.T) {
	for v, want := range map[float64]float64{0: 0, 123456: 123500, 0.123456: 0.1235, -1.00004: -1, 9.9999: 10, math.Inf(1): 0} {
		if got := Round(v); math.Abs(got-want) > 1e-9*math.Abs(want) {
			t.Errorf("Round(%v) = %v, want %v", v, got, want)
		}
	}
}

func TestCompareGoesRoundByRound(t *testing.T) {
	var r Row
	// In the second round something halved the machine's speed: each ratio is still 0.9.
	r.Compare([]float64{0.9, 0.45, 1.8}, []float64{1, 0.5, 2})
	if *r.RatioToEmpty != 0.9 || *r.RatioMin != 0.9 || *r.RatioMax != 0.9 {
		t.Errorf("ratio %v (%v - %v), want 0.9 each", *r.RatioToEmpty, *r.RatioMin, *r.RatioMax)
	}
	var none Row
	none.Compare([]float64{1}, []float64{0})
	if none.RatioToEmpty != nil {
		t.Errorf("a ratio to nothing is %v", *none.RatioToEmpty)
	}
}

// rows returns one row of each kind.
func rows() []Row {
	nat := Row{Name: "capacity/sluice/nat", Experiment: "capacity", System: "sluice", Mode: "nat", Flows: 1000, Protocol: "udp"}
	nat.Set(Mpps, []float64{0.9, 1.1, 1})
	nat.Compare([]float64{0.9, 1.1, 1}, []float64{1, 1.1, 1.25})
	nat.SyscallsPerPacket = Number(0.015625)
	forward := Row{Name: "capacity/forward/forward", Experiment: "capacity", System: "forward", Mode: "forward", Flows: 1000, Protocol: "tcp"}
	forward.Set(Mpps, []float64{0.5})
	forward.SyscallsPerPacket = Number(0)
	ipvs := Row{Name: "capacity/ipvs/ipvs", Experiment: "capacity", System: "ipvs", Mode: "ipvs", Skipped: "no <IPVS> & co", Protocol: "udp"}
	cps := Row{Name: "connections/haproxy/haproxy", Experiment: "connections", System: "haproxy", Mode: "haproxy", BalancerCPU: Number(0.5)}
	cps.Set(CPS, []float64{10_000})
	bulk := Row{Name: "bulk/haproxy/haproxy", Experiment: "bulk", System: "haproxy", Mode: "haproxy", Offloads: true}
	bulk.Set(Gbps, []float64{4, 5})
	late := Row{Name: "latency/sluice/nat/50%", Experiment: "latency", System: "sluice", Mode: "nat", LoadPercent: 50,
		Latency: &Latency{P50: 20, P99: 90, P999: 300, Max: 1000, Added: 19}}
	late.Set(Mpps, []float64{0.5})
	flows := Row{Name: "flows/sluice/nat/1000000", Experiment: "flows", System: "sluice", Mode: "nat", Flows: 1_000_000}
	flows.Set(Mpps, []float64{0.7})
	return []Row{nat, forward, ipvs, cps, bulk, late, flows}
}

func TestJSONHasWhatTheContractNames(t *testing.T) {
	text, err := json.Marshal(rows())
	if err != nil {
		t.Fatal(err)
	}
	var got []map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	want := []map[string]any{
		{"name": "capacity/sluice/nat", "mode": "nat", "mpps": 1.0, "median": 1.0, "min": 0.9, "max": 1.1, "ratio_to_empty": 0.9, "syscalls_per_packet": 0.01563},
		{"mpps": 0.5, "syscalls_per_packet": 0.0},
		{"mode": "ipvs", "skipped": "no <IPVS> & co"},
		{"cps": 10_000.0},
		{"gbps": 4.5, "min": 4.0, "max": 5.0},
	}
	for i, fields := range want {
		for key, value := range fields {
			if got[i][key] != value {
				t.Errorf("row %d: %s is %v, want %v", i, key, got[i][key], value)
			}
		}
	}
	for _, key := range []string{"mpps", "median", "ratio_to_empty", "syscalls_per_packet"} {
		if _, there := got[2][key]; there {
			t.Errorf("a skipped row has %s", key)
		}
	}
}

func TestMarkdown(t *testing.T) {
	var text strings.Builder
	if err := Markdown(&text, rows()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"## capacity", "| sluice nat |", "**1** (0.9 - 1.1)", "**90.0 %** (80.0 % - 100.0 %)", "| 0.01563 |",
		"skipped: no <IPVS> & co", "## connections", "| 50.0 |", "| haproxy, offloads |", "**4.5** (4 - 5)", "| 19 |",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the tables don't have %q:\n%s", want, text.String())
		}
	}
	for i, line := range strings.Split(text.String(), "\n") {
		if strings.HasPrefix(line, "|") && !strings.HasSuffix(line, "|") {
			t.Errorf("line %d isn't a table's: %q", i+1, line)
		}
	}
}

func TestEveryChartIsWellFormed(t *testing.T) {
	all := rows()
	all[0].Mode = `n"<&>'at` // a name must not break the file
	charts := Charts(all)
	for _, name := range []string{"capacity", "connections", "bulk", "latency", "flows"} {
		if _, there := charts[name]; !there {
			t.Errorf("there is no chart %s", name)
		}
	}
	for name, c := range charts {
		var out bytes.Buffer
		if err := chart.Draw(&out, c); err != nil {
			t.Fatal(err)
		}
		checkXML(t, name, out.Bytes())
	}
	if len(Charts(nil)) != 0 {
		t.Error("no rows make a chart")
	}
}

func checkXML(t *testing.T, name string, text []byte) {
	t.Helper()
	decoder := xml.NewDecoder(bytes.NewReader(text))
	for {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%s: %v in\n%s", name, err, text)
		}
	}
}
