package report

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// column is one column of a table; text is "" for a row without a value.
type column struct {
	title     string
	text      func(Row) string
	parameter bool // left out if it is the same in all rows
}

var columns = []column{
	{title: "system", text: func(r Row) string { return r.Label() }},
	{title: "SNAT ports", text: func(r Row) string { return r.Ports }, parameter: true},
	{title: "protocol", text: func(r Row) string { return r.Protocol }, parameter: true},
	{title: "flows", text: func(r Row) string { return count(r.Flows) }, parameter: true},
	{title: "frame bytes", text: func(r Row) string { return count(r.FrameBytes) }, parameter: true},
	{title: "services", text: func(r Row) string { return count(r.Services) }, parameter: true},
	{title: "backends", text: func(r Row) string { return count(r.Backends) }, parameter: true},
	{title: "workers", text: func(r Row) string { return count(r.Workers) }, parameter: true},
	{title: "load", text: func(r Row) string { return percentOf(r.LoadPercent) }, parameter: true},
	{title: "Mpps", text: func(r Row) string { return r.of(Mpps) }},
	{title: "connections/s", text: func(r Row) string { return r.of(CPS) }},
	{title: "Gbit/s", text: func(r Row) string { return r.of(Gbps) }},
	{title: "of empty", text: func(r Row) string {
		return spread(r.RatioToEmpty, r.RatioMin, r.RatioMax, func(v float64) string { return fmt.Sprintf("%.1f %%", 100*v) })
	}},
	{title: "of fresh", text: func(r Row) string { return share(r.RatioToFresh) }},
	{title: "p50 us", text: func(r Row) string { return r.latency(func(l *Latency) float64 { return l.P50 }) }},
	{title: "p50 added us", text: func(r Row) string { return r.latency(func(l *Latency) float64 { return l.Added }) }},
	{title: "p99 us", text: func(r Row) string { return r.latency(func(l *Latency) float64 { return l.P99 }) }},
	{title: "p99.9 us", text: func(r Row) string { return r.latency(func(l *Latency) float64 { return l.P999 }) }},
	{title: "lost", text: func(r Row) string { return r.lost() }},
	{title: "syscalls/packet", text: func(r Row) string { return number(r.SyscallsPerPacket) }},
	{title: "packets/batch", text: func(r Row) string { return number(r.PacketsPerBatch) }},
	{title: "CPU ns/packet", text: func(r Row) string { return number(r.CPUNsPerPacket) }},
	{title: "offered Mpps", text: func(r Row) string { return number(r.OfferedMpps) }},
	{title: "balancer's CPU busy", text: func(r Row) string { return share(r.BalancerCPU) }},
	{title: "ends' CPU busy", text: func(r Row) string { return share(r.EndsCPU) }},
	{title: "CPU us/connection", text: func(r Row) string { return r.perConnection() }},
}

// Label returns the name of the row's system in tables and plots.
func (r Row) Label() string {
	label := r.System
	if r.Mode != r.System {
		label += " " + r.Mode
	}
	if r.Offloads {
		label += ", offloads"
	}
	return label
}

// Markdown writes one table for each experiment, in the order in which they first occur.
func Markdown(w io.Writer, rows []Row) error {
	for _, experiment := range Experiments(rows) {
		if err := table(w, experiment, Of(rows, experiment)); err != nil {
			return err
		}
	}
	return nil
}

// Experiments lists them in the order in which they first occur.
func Experiments(rows []Row) (names []string) {
	for _, r := range rows {
		if !slices.Contains(names, r.Experiment) {
			names = append(names, r.Experiment)
		}
	}
	return names
}

// Of returns the rows of one experiment.
func Of(rows []Row, experiment string) (some []Row) {
	for _, r := range rows {
		if r.Experiment == experiment {
			some = append(some, r)
		}
	}
	return some
}

func table(w io.Writer, title string, rows []Row) error {
	var used []column
	for _, c := range columns {
		if c.wanted(rows) {
			used = append(used, c)
		}
	}
	figures := slices.IndexFunc(used, func(c column) bool { return !c.parameter && c.title != columns[0].title })
	var text strings.Builder
	fmt.Fprintf(&text, "## %s\n\n|", title)
	for _, c := range used {
		fmt.Fprintf(&text, " %s |", c.title)
	}
	text.WriteString("\n|" + strings.Repeat("---|", len(used)) + "\n")
	for _, r := range rows {
		text.WriteString("|")
		for i, c := range used {
			cell := c.text(r)
			if r.Skipped != "" && i == figures {
				cell = "skipped: " + r.Skipped
			}
			fmt.Fprintf(&text, " %s |", cell)
		}
		text.WriteString("\n")
	}
	text.WriteString("\n")
	_, err := io.WriteString(w, text.String())
	return err
}

// wanted reports whether the column has values that differ between these rows.
func (c column) wanted(rows []Row) bool {
	first, differ, any := "", false, false
	for i, r := range rows {
		cell := c.text(r)
		if i == 0 {
			first = cell
		}
		differ = differ || cell != first
		any = any || cell != ""
	}
	return any && (differ || !c.parameter)
}

// of returns the row's figure if the row has this unit.
func (r Row) of(unit string) string {
	if r.Unit() != unit {
		return ""
	}
	return spread(r.Median, r.Min, r.Max, func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) })
}

// spread returns the median with the extremes.
func spread(median, low, high *float64, format func(float64) string) string {
	if median == nil || low == nil || high == nil {
		return ""
	}
	return fmt.Sprintf("**%s** (%s - %s)", format(*median), format(*low), format(*high))
}

func (r Row) latency(pick func(*Latency) float64) string {
	if r.Latency == nil {
		return ""
	}
	return strconv.FormatFloat(pick(r.Latency), 'g', -1, 64)
}

func (r Row) lost() string {
	if r.Latency == nil {
		return ""
	}
	return fmt.Sprintf("%.2g %%", 100*r.Latency.Lost)
}

// perConnection returns the CPU time of the balancer per connection.
func (r Row) perConnection() string {
	if r.CPS == nil || *r.CPS == 0 || r.BalancerCPU == nil {
		return ""
	}
	return fmt.Sprintf("%.1f", *r.BalancerCPU*1e6 / *r.CPS)
}

func number(v *float64) string {
	if v == nil {
		return ""
	}
	return strconv.FormatFloat(*v, 'g', -1, 64)
}

func share(v *float64) string {
	if v == nil {
		return ""
	}
	return fmt.Sprintf("%.0f %%", 100**v)
}

func count(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func percentOf(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%d %%", n)
}
