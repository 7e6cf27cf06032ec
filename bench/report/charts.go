package report

import (
	"fmt"
	"slices"
	"strconv"
)

// Charts are the plots of all experiments in rows, by file name without ending.
func Charts(rows []Row) map[string]Chart {
	charts := map[string]Chart{}
	for name, c := range map[string]Chart{
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
func bars(rows []Row, title, y string) Chart {
	c := Chart{Title: title, Y: y, Places: []string{""}, Bars: true}
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
		c.Series = append(c.Series, Series{Name: name, Points: []*Point{r.point()}})
	}
	return c
}

// lines has one line for each system.
func lines(rows []Row, title, x, y string, place func(Row) string) Chart {
	c := Chart{Title: title, X: x, Y: y}
	for _, r := range rows {
		if r.Median != nil && !slices.Contains(c.Places, place(r)) {
			c.Places = append(c.Places, place(r))
		}
	}
	for _, r := range rows {
		if r.Median != nil {
			*c.at(r.Label(), place(r)) = r.point()
		}
	}
	return c
}

func latencies(rows []Row) Chart {
	c := Chart{Title: "Median latency by load; the line goes up to the 99th percentile", X: "percent of the system's own capacity", Y: "microseconds", LogY: true}
	for _, r := range rows {
		if place := percentOf(r.LoadPercent); r.Latency != nil && place != "" && !slices.Contains(c.Places, place) {
			c.Places = append(c.Places, place)
		}
	}
	for _, r := range rows {
		if r.Latency != nil && r.LoadPercent > 0 {
			*c.at(r.Label(), percentOf(r.LoadPercent)) = &Point{Median: r.Latency.P50, Min: r.Latency.P50, Max: r.Latency.P99}
		}
	}
	return c
}

// at is the point of a series, which is made if need be, at a place.
func (c *Chart) at(series, place string) **Point {
	i := slices.IndexFunc(c.Series, func(s Series) bool { return s.Name == series })
	if i < 0 {
		i = len(c.Series)
		c.Series = append(c.Series, Series{Name: series, Points: make([]*Point, len(c.Places))})
	}
	return &c.Series[i].Points[slices.Index(c.Places, place)]
}

func (r Row) point() *Point { return &Point{Median: *r.Median, Min: *r.Min, Max: *r.Max} }

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
