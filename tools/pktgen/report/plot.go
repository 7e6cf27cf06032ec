package report

import (
	"io"
	"strconv"

	"sluice/tools/chart"
	"sluice/tools/pktgen/search"
	"sluice/tools/pktgen/trial"
)

// Plot draws rate and latency over time. parameters stand below the titles.
func Plot(w io.Writer, r trial.Result, parameters string) error {
	sent, received := chart.Series{Name: "sent"}, chart.Series{Name: "received"}
	p50, p99 := chart.Series{Name: "p50"}, chart.Series{Name: "p99"}
	for _, s := range r.Samples {
		sent.Add(s.AtS, s.SentPPS)
		if r.Counts != nil {
			received.Add(s.AtS, s.ReceivedPPS)
		}
		if s.LatencyP50NS > 0 {
			p50.Add(s.AtS, float64(s.LatencyP50NS))
			p99.Add(s.AtS, float64(s.LatencyP99NS))
		}
	}
	charts := []chart.Chart{{Title: "Rate", Subtitle: parameters, X: "seconds", Y: "frames per second", Series: []chart.Series{sent, received}}}
	if len(p50.Points) > 0 {
		charts = append(charts, latencyChart("Latency in each interval", parameters, "seconds", p50, p99))
	}
	return chart.Draw(w, charts...)
}

// SearchPlot draws loss and latency of the trials of a search by rate: which passed, which failed,
// and the result. parameters stand below the titles.
func SearchPlot(w io.Writer, r search.Result, parameters string) error {
	loss, latency := outcomes("passed", "failed"), outcomes("p50, passed", "p50, failed", "p99, passed", "p99, failed")
	measured := false
	for _, o := range r.Trials {
		series := 0
		if !o.Passed {
			series = 1
		}
		loss[series].Add(o.SentPPS, o.LossRatio*100)
		if o.P50NS > 0 {
			latency[series].Add(o.SentPPS, float64(o.P50NS))
			latency[series+2].Add(o.SentPPS, float64(o.P99NS))
			measured = true
		}
	}
	result := "Result: none, every trial failed"
	var marks []chart.Mark
	if r.Best != nil {
		result = "Result: " + rate(r.ThroughputPPS)
		marks = []chart.Mark{{X: r.ThroughputPPS, Text: "result " + rate(r.ThroughputPPS)}}
	}
	charts := []chart.Chart{{Title: "Loss by rate. " + result, Subtitle: parameters, X: "frames per second", Y: "percent lost", Series: loss, Marks: marks}}
	if measured {
		c := latencyChart("Latency by rate. "+result, parameters, "frames per second", latency...)
		c.Marks = marks
		charts = append(charts, c)
	}
	return chart.Draw(w, charts...)
}

// outcomes returns series of dots: the names alternate between trials that passed and that failed.
func outcomes(names ...string) (series []chart.Series) {
	for i, name := range names {
		series = append(series, chart.Series{Name: name, Dots: true, Cross: i%2 == 1})
	}
	return series
}

// latencyChart returns a chart of nanoseconds on a logarithmic axis.
func latencyChart(title, parameters, x string, series ...chart.Series) chart.Chart {
	return chart.Chart{Title: title, Subtitle: parameters, X: x, Y: "latency", Series: series, LogY: true, FormatY: latencyLabel}
}

// latencyLabel formats nanoseconds in the largest unit of which there is one: 10000 is 10 us.
func latencyLabel(ns float64) string {
	unit := "ns"
	for _, larger := range []string{"us", "ms", "s"} {
		if ns < 1000 {
			break
		}
		ns, unit = ns/1000, larger
	}
	return strconv.FormatFloat(ns, 'g', 4, 64) + " " + unit
}
