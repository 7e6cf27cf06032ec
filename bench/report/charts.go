package report

import (
	"fmt"
	"slices"
	"strconv"

	"sluice/tools/chart"
)

// Charts returns the plots of all experiments in rows, by file name without extension.
func Charts(rows []Row) map[string]chart.Chart {
	charts := map[string]chart.Chart{}
	for name, c := range map[string]chart.Chart{
		"capacity":    bars(Of(rows, "capacity"), "Packets forwarded, 64-byte UDP or 76-byte TCP, 1000 flows, one core", "Mpps"),
		"workers":     bars(Of(rows, "workers"), "One worker and two; the second one shares its CPU with the generator", "Mpps"),
		"connections": bars(Of(rows, "connections"), "Connections opened, used and closed", "connections per second"),
		"bulk":        bars(Of(rows, "bulk"), "One direction of 8 connections", "Gbit/s"),
		"flows":       lines(Of(rows, "flows"), "Packets forwarded by number of flows", "flows", "Mpps", func(r Row) string { return short(r.Flows) }),
		"sizes":       lines(Of(rows, "sizes"), "Packets forwarded by size", "bytes, with frame check sequence", "Mpps", func(r Row) string { return strconv.Itoa(r.FrameBytes + 4) }),
		"services": lines(Of(rows, "services"), "Packets forwarded by number of services and backends of each", "services x backends", "Mpps",
			func(r Row) string { return fmt.Sprintf("%d x %d", r.Services, r.Backends) }),
		"latency": latencies(Of(rows, "latency")),
	} {
		if len(c.Series) > 0 {
			charts[name] = c
		}
	}
	return charts
}

// bars has one bar for each row.
func bars(rows []Row, title, y string) chart.Chart {
	c := chart.Chart{Title: title, Y: y, Categories: []string{""}, Bars: true}
	for _, r := range rows {
		if r.Median == nil {
			continue
		}
		name := r.Label()
		if r.Protocol == "tcp" && r.Unit() == Mpps {
			name += ", tcp"
		}
		if r.Experiment == "workers" {
			name += fmt.Sprintf(", workers: %d", r.Workers)
		}
		c.Series = append(c.Series, chart.Series{Name: name, Points: []chart.Point{r.point(0)}})
	}
	return c
}

// lines has one line for each system.
func lines(rows []Row, title, x, y string, category func(Row) string) chart.Chart {
	c := chart.Chart{Title: title, X: x, Y: y}
	for _, r := range rows {
		if r.Median != nil {
			add(&c, r, r.point(at(&c, category(r))))
		}
	}
	return c
}

func latencies(rows []Row) chart.Chart {
	c := chart.Chart{Title: "Median latency by load; the line goes up to the 99th percentile", X: "percent of the system's own capacity", Y: "microseconds", LogY: true}
	for _, r := range rows {
		if r.Latency != nil && r.LoadPercent > 0 {
			add(&c, r, chart.Point{X: at(&c, percentOf(r.LoadPercent)), Y: r.Latency.P50, Min: r.Latency.P50, Max: r.Latency.P99})
		}
	}
	return c
}

// at returns the position of a category, which it appends if the chart does not have it.
func at(c *chart.Chart, category string) float64 {
	i := slices.Index(c.Categories, category)
	if i < 0 {
		i = len(c.Categories)
		c.Categories = append(c.Categories, category)
	}
	return float64(i)
}

// add adds a point to the series of a row's system, which it appends if the chart does not have it.
func add(c *chart.Chart, r Row, p chart.Point) {
	i := slices.IndexFunc(c.Series, func(s chart.Series) bool { return s.Name == r.Label() })
	if i < 0 {
		i = len(c.Series)
		c.Series = append(c.Series, chart.Series{Name: r.Label()})
	}
	c.Series[i].Points = append(c.Series[i].Points, p)
}

func (r Row) point(x float64) chart.Point {
	return chart.Point{X: x, Y: *r.Median, Min: *r.Min, Max: *r.Max}
}

// short writes 1000000 as 1M.
func short(n int) string {
	switch {
	case n >= 1_000_000 && n%1_000_000 == 0:
		return fmt.Sprint(n/1_000_000, "M")
	case n >= 1000 && n%1000 == 0:
		return fmt.Sprint(n/1000, "k")
	}
	return strconv.Itoa(n)
}
