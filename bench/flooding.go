package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"sluice/bench/flooding"
)

// floodVerb measures what floods do to the connections of real clients.
func floodVerb(args []string) error {
	flags := flag.NewFlagSet("flood", flag.ContinueOnError)
	out := flags.String("out", "bench/out/flood.json", "file for the results; a table (.md) goes beside it")
	sluice := flags.String("sluice", "bin/sluice", "the program to measure")
	length := flags.Duration("time", time.Minute, "how long each flood lasts")
	rate := flags.Float64("rate", 0, "packets per second of cases without a rate of their own; 0: the highest that leaves 30 % of the CPUs idle")
	only := flags.String("only", "", "regular expression: only cases that it matches, such as syn/nat/1")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("flood needs root, because it makes network namespaces: sudo bin/bench flood")
	}
	match, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	program, err := measured(*sluice)
	if err != nil {
		return err
	}
	ctx, stop := untilStopped()
	defer stop()
	results, err := flooding.Run(ctx, flooding.Settings{Program: program, Time: *length, Only: match, Rate: *rate, Log: progress()})
	if len(results) == 0 {
		return err
	}
	return errors.Join(err, writeFloods(*out, results))
}

// writeFloods writes the results, and a table of them beside.
func writeFloods(path string, results []flooding.Result) error {
	m := thisMachine()
	if err := writeJSON(path, m, results); err != nil {
		return err
	}
	table := fmt.Sprintf("Commit %s, `%s`: %s, %d CPUs, Linux %s, %s, veth.\n\n", m.Commit, m.Command, m.CPU, m.Cores, m.Kernel, m.Go) + flooding.Table(results)
	base := path[:len(path)-len(filepath.Ext(path))]
	return os.WriteFile(base+".md", []byte(table), 0o644)
}
