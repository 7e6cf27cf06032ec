package report_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"sluice/tools/pktgen/report"
	"sluice/tools/pktgen/rx"
	"sluice/tools/pktgen/search"
	"sluice/tools/pktgen/trial"
)

func result() trial.Result {
	return trial.Result{
		Sender: "live", Receiver: "kernel", AskedPPS: 1e6, SentPPS: 999_999.5, ReceivedPPS: 999_000, SpanS: 2,
		Sent: 2_000_000, SentBytes: 120_000_000, Refused: 5, Received: 1_999_990, ReceivedBytes: 119_999_400, Lost: 10, LossRatio: 5e-6,
		Counts:  &rx.Counts{Frames: 1_999_990, Bytes: 119_999_400, Reordered: 3, Foreign: 1},
		Flows:   &trial.Flows{Sent: 1000, Seen: 1000, WithLoss: 1, Worst: []trial.FlowLoss{{Flow: 7, Sent: 2000, Received: 1990}}},
		Latency: &trial.Latency{Count: 1_999_990, MinNS: 600, MeanNS: 7000, P50NS: 7100, P90NS: 9000, P99NS: 23_000, P999NS: 1_200_000, MaxNS: 2_500_000_000},
		Samples: []trial.Sample{
			{AtS: 1, SentPPS: 1e6, ReceivedPPS: 999_990, Sent: 1e6, Received: 999_990, Lost: 10, LatencyP50NS: 7000, LatencyP99NS: 20_000},
			{AtS: 2, SentPPS: 1e6, ReceivedPPS: 1e6, Sent: 2e6, Received: 1_999_990, Lost: 10, LatencyP50NS: 7200, LatencyP99NS: 26_000},
		},
	}
}

func found() search.Result {
	trials := []search.Outcome{
		{AskedPPS: 0, SentPPS: 4e6, Sent: 4e6, Received: 1e6, Lost: 3e6, LossRatio: 0.75, P50NS: 9000, P99NS: 20_000},
		{AskedPPS: 1e6, SentPPS: 1e6, Sent: 1e6, Received: 1e6, P50NS: 8000, P99NS: 12_000, Passed: true},
	}
	return search.Result{ThroughputPPS: 1e6, Best: &trials[1], Trials: trials}
}

func text(t *testing.T, write func(io.Writer) error) string {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func contains(t *testing.T, got string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestText(t *testing.T) {
	got := text(t, func(w io.Writer) error { return report.Text(w, result()) })
	contains(t, got, "2,000,000 frames", "by live: 1000.00 kpps", "5 of them by the sending interface", "1,999,990 frames",
		"lost       10 frames, 0.0005 %", "3 frames came after a later one", "1 frames of other runs", "1 with loss", "flow 7: 1,990 of 2,000 came",
		"p50 7.1 us", "p99.9 1.20 ms", "max 2.500 s")
	if strings.Contains(got, "duplicates") {
		t.Error("it tells of duplicates, and there are none")
	}
	contains(t, text(t, func(w io.Writer) error { return report.SearchText(w, found()) }), "1.000 Mpps", "p50 8.0 us")
	contains(t, text(t, func(w io.Writer) error { return report.SearchText(w, search.Result{}) }), "none")
}

func TestJSON(t *testing.T) {
	var got map[string]any
	if err := json.Unmarshal([]byte(text(t, func(w io.Writer) error { return report.JSON(w, result()) })), &got); err != nil {
		t.Fatal(err)
	}
	if got["sent"] != 2e6 || got["lost"] != 10.0 || got["latency"].(map[string]any)["p99_9_ns"] != 1.2e6 || len(got["samples"].([]any)) != 2 {
		t.Errorf("%v", got)
	}
}

// TestProgressInAFileIsLines: a file gets no control characters.
func TestProgressInAFileIsLines(t *testing.T) {
	var b bytes.Buffer
	p := report.NewProgress(&b, true)
	for _, s := range result().Samples {
		p.Sample(s)
	}
	p.Trial(found().Trials[0])
	p.Trial(found().Trials[1])
	p.End()
	got := b.String()
	if strings.Count(got, "\n") != 4 || strings.ContainsAny(got, "\r\x1b") {
		t.Errorf("%q", got)
	}
	contains(t, got, "sent 1.000 Mpps", "lost 10", "p50 7.0 us p99 20.0 us", "as fast as possible", "75.00 %): lost\n", "passed\n")
}

// TestPlotsAreSVG: plots are well-formed, with a line for each series and a circle for each point,
// and refer to no other file.
func TestPlotsAreSVG(t *testing.T) {
	for name, c := range map[string]struct {
		draw          func(io.Writer) error
		lines, points int
	}{
		"run":    {func(w io.Writer) error { return report.Plot(w, result(), "udp, 64 B") }, 4, 8},
		"search": {func(w io.Writer) error { return report.SearchPlot(w, found(), "udp, 64 B") }, 0, 3},
		"empty":  {func(w io.Writer) error { return report.Plot(w, trial.Result{}, "udp, 64 B") }, 0, 0},
		"none":   {func(w io.Writer) error { return report.SearchPlot(w, search.Result{}, "udp, 64 B") }, 0, 0},
	} {
		got := text(t, c.draw)
		elements := map[string]int{}
		decoder := xml.NewDecoder(strings.NewReader(got))
		for {
			token, err := decoder.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v in\n%s", name, err, got)
			}
			if start, ok := token.(xml.StartElement); ok {
				elements[start.Name.Local]++
			}
		}
		if elements["svg"] != 1 || elements["polyline"] != c.lines || elements["circle"] != c.points {
			t.Errorf("%s: %v, want %d lines and %d points", name, elements, c.lines, c.points)
		}
		if strings.Contains(got, "NaN") || strings.Contains(got, "Inf") || strings.Contains(got, "href") {
			t.Errorf("%s:\n%s", name, got)
		}
	}
}

// TestPlotsSayWhatTheyShow: latency has a logarithmic axis with units, a search shows which trials
// passed, which failed and the result, and titles have the parameters.
func TestPlotsSayWhatTheyShow(t *testing.T) {
	run := text(t, func(w io.Writer) error { return report.Plot(w, result(), "udp, 64 B") })
	contains(t, run, ">Rate<", ">udp, 64 B<", ">1 us<", ">10 us<", ">100 us<")
	slow := result()
	slow.Samples[0].LatencyP99NS = 2_500_000_000
	slow.Samples[0].LatencyP50NS = 700
	contains(t, text(t, func(w io.Writer) error { return report.Plot(w, slow, "") }), ">100 ns<", ">1 us<", ">1 ms<", ">1 s<", ">10 s<")

	drawn := text(t, func(w io.Writer) error { return report.SearchPlot(w, found(), "udp, 64 B") })
	contains(t, drawn, ">passed<", ">failed<", ">p50, passed<", ">p99, failed<", ">Loss by rate. Result: 1.000 Mpps<", ">result 1.000 Mpps<", ">udp, 64 B<", ">10 us<")
	if crosses, marks := strings.Count(drawn, "<path "), strings.Count(drawn, "stroke-dasharray"); crosses != 3 || marks != 2 {
		t.Errorf("%d crosses and %d marks, want 3 and 2", crosses, marks)
	}
	contains(t, text(t, func(w io.Writer) error { return report.SearchPlot(w, search.Result{Trials: found().Trials[:1]}, "") }), "Result: none, every trial failed")
}
