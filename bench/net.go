package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"sluice/bench/compare"
	"sluice/bench/report"
	"sluice/bench/testbed"
	"sluice/engine/cpu"
	"sluice/tools/chart"
)

// netVerb compares Sluice with its peers over veth.
func netVerb(args []string) error {
	flags := flag.NewFlagSet("net", flag.ContinueOnError)
	out := flags.String("out", "bench/out/net.json", "file for the results; tables (.md) and plots (.svg) go beside it")
	sluice := flags.String("sluice", "bin/sluice", "the program to measure")
	rounds := flags.Int("rounds", 5, "rounds per row; the median counts")
	seconds := flags.Float64("seconds", 0.5, "length of one measurement")
	only := flags.String("only", "", "regular expression: only experiments that it matches, of "+strings.Join(compare.Names(), " "))
	small := flags.Bool("small", false, "few flows, services and backends: to see that everything runs")
	install := flags.Bool("install", true, "install missing peers from Debian with apt")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("net needs root, because it makes network namespaces: sudo make bench-net")
	}
	match, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	if *rounds < 1 || *seconds < 0.05 {
		return errors.New("-rounds must be at least 1 and -seconds at least 0.05")
	}
	program, err := measured(*sluice)
	if err != nil {
		return err
	}
	return compareAll(compare.Settings{
		Program: program, Rounds: *rounds, Only: match, Install: *install, Small: *small,
		Window: time.Duration(*seconds * float64(time.Second)),
	}, *out)
}

// compareAll runs the experiments and writes the results, even if one of them fails.
func compareAll(s compare.Settings, out string) (err error) {
	if s.CPUs, err = placement(); err != nil {
		return err
	}
	if s.Dir, err = os.MkdirTemp("", "sluice-bench"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.Dir)) }()
	ctx, stop := untilStopped()
	defer stop()
	s.Log = progress()
	s.Log("client and server on CPU %d, the balancer on CPU %d; %d rounds of %v", s.CPUs.Ends, s.CPUs.Balancer, s.Rounds, s.Window)
	b := &compare.Bench{Settings: s}
	err = b.Run(ctx)
	if ctx.Err() != nil {
		return errors.New("stopped; nothing is written")
	}
	return errors.Join(err, writeNet(out, s, b.Rows))
}

// placement puts the ends on the first CPU and the balancer on the second.
func placement() (testbed.CPUs, error) {
	allowed, err := cpu.Allowed()
	if err != nil {
		return testbed.CPUs{}, err
	}
	return testbed.CPUs{Ends: allowed[0], Balancer: allowed[min(1, len(allowed)-1)]}, nil
}

// netMachine describes what a figure of the network benchmark depends on besides the code.
type netMachine struct {
	machine
	NIC         string  `json:"nic"`
	AFXDP       string  `json:"af_xdp"`
	EndsCPU     int     `json:"ends_cpu"`
	BalancerCPU int     `json:"balancer_cpu"`
	Rounds      int     `json:"rounds"`
	WindowS     float64 `json:"window_s"`
}

// writeNet writes net.json, and beside it net.md and net-EXPERIMENT.svg.
func writeNet(path string, s compare.Settings, rows []report.Row) error {
	m := netMachine{
		machine: thisMachine(), NIC: "veth", EndsCPU: s.CPUs.Ends, BalancerCPU: s.CPUs.Balancer,
		Rounds: s.Rounds, WindowS: s.Window.Seconds(),
	}
	for _, r := range rows {
		if r.System == "sluice" && r.AFXDP != "" {
			m.AFXDP = r.AFXDP
		}
	}
	if err := writeJSON(path, m, rows); err != nil {
		return err
	}
	base := strings.TrimSuffix(path, filepath.Ext(path))
	if err := os.WriteFile(base+".md", []byte(tables(m, rows)), 0o644); err != nil {
		return err
	}
	for name, c := range report.Charts(rows) {
		var svg strings.Builder
		err := chart.Draw(&svg, c)
		if err == nil {
			err = os.WriteFile(base+"-"+name+".svg", []byte(svg.String()), 0o644)
		}
		if err != nil {
			return err
		}
	}
	fmt.Printf("written to %s, tables to %s.md, plots to %s-*.svg\n", path, base, base)
	return nil
}

// tables returns the content of the Markdown file.
func tables(m netMachine, rows []report.Row) string {
	var text strings.Builder
	fmt.Fprintf(&text, "Commit %s, `%s`: %s, %d CPUs, Linux %s, %s, %s, AF_XDP in %s mode. Client and server on CPU %d, "+
		"balancer on CPU %d. Medians of %d rounds of %g s, with the lowest and the highest round.\n\n",
		m.Commit, m.Command, m.CPU, m.Cores, m.Kernel, m.Go, m.NIC, m.AFXDP, m.EndsCPU, m.BalancerCPU, m.Rounds, m.WindowS)
	_ = report.Markdown(&text, rows) // a strings.Builder does not fail
	return text.String()
}
