package report

import (
	"io"

	"sluice/tools/chart"
	"sluice/tools/pktgen/search"
	"sluice/tools/pktgen/trial"
)

// Plot draws rate, loss and latency over time.
func Plot(w io.Writer, r trial.Result) error {
	sent, received := chart.Series{Name: "sent"}, chart.Series{Name: "received"}
	p50, p99 := chart.Series{Name: "p50"}, chart.Series{Name: "p99"}
	for _, s := range r.Samples {
		sent.Add(s.AtS, s.SentPPS)
		if r.Counts != nil {
			received.Add(s.AtS, s.ReceivedPPS)
		}
		if s.LatencyP50NS > 0 {
			p50.Add(s.AtS, float64(s.LatencyP50NS)/1e3)
			p99.Add(s.AtS, float64(s.LatencyP99NS)/1e3)
		}
	}
	charts := []chart.Chart{{Title: "Rate", X: "seconds", Y: "frames per second", Series: []chart.Series{sent, received}}}
	if len(p50.Points) > 0 {
		charts = append(charts, chart.Chart{Title: "Latency in each interval", X: "seconds", Y: "microseconds", Series: []chart.Series{p50, p99}})
	}
	return chart.Draw(w, charts...)
}

// SearchPlot draws loss and latency of the trials of a search by rate.
func SearchPlot(w io.Writer, r search.Result) error {
	loss := chart.Series{Name: "lost", Dots: true}
	p50, p99 := chart.Series{Name: "p50", Dots: true}, chart.Series{Name: "p99", Dots: true}
	for _, o := range r.Trials {
		loss.Add(o.SentPPS, o.LossRatio*100)
		if o.P50NS > 0 {
			p50.Add(o.SentPPS, float64(o.P50NS)/1e3)
			p99.Add(o.SentPPS, float64(o.P99NS)/1e3)
		}
	}
	charts := []chart.Chart{{Title: "Loss", X: "frames per second", Y: "percent lost", Series: []chart.Series{loss}}}
	if len(p50.Points) > 0 {
		charts = append(charts, chart.Chart{Title: "Latency", X: "frames per second", Y: "microseconds", Series: []chart.Series{p50, p99}})
	}
	return chart.Draw(w, charts...)
}
