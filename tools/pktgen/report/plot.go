package report

import (
	"io"

	"sluice/tools/pktgen/search"
	"sluice/tools/pktgen/trial"
)

// Plot draws rate, loss and latency over time.
func Plot(w io.Writer, r trial.Result) error {
	var sent, received, p50, p99 series
	sent.name, received.name, p50.name, p99.name = "sent", "received", "p50", "p99"
	for _, s := range r.Samples {
		sent.add(s.AtS, s.SentPPS)
		if r.Counts != nil {
			received.add(s.AtS, s.ReceivedPPS)
		}
		if s.LatencyP50NS > 0 {
			p50.add(s.AtS, float64(s.LatencyP50NS)/1e3)
			p99.add(s.AtS, float64(s.LatencyP99NS)/1e3)
		}
	}
	charts := []chart{{title: "Rate", x: "seconds", y: "frames per second", series: []series{sent, received}}}
	if len(p50.points) > 0 {
		charts = append(charts, chart{title: "Latency in each interval", x: "seconds", y: "microseconds", series: []series{p50, p99}})
	}
	return draw(w, charts)
}

// SearchPlot draws the trials of a search: what was lost, and how late frames were, at which rate.
func SearchPlot(w io.Writer, r search.Result) error {
	loss := series{name: "lost", dots: true}
	p50, p99 := series{name: "p50", dots: true}, series{name: "p99", dots: true}
	for _, o := range r.Trials {
		loss.add(o.SentPPS, o.LossRatio*100)
		if o.P50NS > 0 {
			p50.add(o.SentPPS, float64(o.P50NS)/1e3)
			p99.add(o.SentPPS, float64(o.P99NS)/1e3)
		}
	}
	charts := []chart{{title: "Loss", x: "frames per second", y: "percent lost", series: []series{loss}}}
	if len(p50.points) > 0 {
		charts = append(charts, chart{title: "Latency", x: "frames per second", y: "microseconds", series: []series{p50, p99}})
	}
	return draw(w, charts)
}
