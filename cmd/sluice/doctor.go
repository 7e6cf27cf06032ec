package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/cmd/sluice/daemon"
	"sluice/cmd/sluice/text"
	"sluice/conf"
	"sluice/engine/api"
	"sluice/engine/doctor"
)

func newDoctor() *cobra.Command {
	var configPath, socket string
	var output format
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check this machine: what is wrong, what is slow, and how to fix it",
		Long: "Doctor checks everything on this machine that Sluice depends on: the file, the running daemon if there is one,\n" +
			"interfaces, queues, interrupts, routes, neighbours, offloads, limits. Each finding is one sentence and a fix.\n" +
			"What counts is what happens while it looks, which takes a second: counters that rise, and frames that come in.\n" +
			"Nothing is changed. It exits with 1 if there is a problem, otherwise with 0; notes and warnings don't count.",
		Example: "  sluice doctor --config /etc/sluice/sluice.toml\n  sluice doctor -o json | jq '.[] | select(.severity == \"problem\")'",
		Args:    cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			findings, err := examine(cmd, configPath, socket)
			if err != nil {
				return err
			}
			err = output.print(cmd.OutOrStdout(), findings, func(w io.Writer) error { return findingTable(w, findings) })
			if n := count(findings, doctor.Problem); err == nil && n > 0 {
				return fmt.Errorf("%d problem(s)", n)
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&configPath, "config", "c", DefaultConfig, "configuration file")
	cmd.Flags().StringVar(&socket, "socket", "", "control socket of the daemon, instead of the file's [api] socket")
	output.add(cmd)
	return cmd
}

// examine collects all facts and runs the checks.
func examine(cmd *cobra.Command, configPath, socket string) ([]doctor.Finding, error) {
	runtime.LockOSThread() // /proc/net and netlink are those of the thread's namespace
	defer runtime.UnlockOSThread()
	box, err := doctor.Collect()
	if err != nil {
		return nil, err
	}
	box.Config, box.Warnings, box.ConfigErr = daemon.LoadConfig(configPath)
	if box.Config == nil { // invalid on this machine, but it may parse
		box.Config, _, _ = conf.Load(configPath, nil)
	}
	if socket == "" {
		socket = api.DefaultSocket
		if box.Config != nil {
			socket = box.Config.API.Socket
		}
	}
	client := api.NewClient(socket)
	box.Before, err = look(cmd.Context(), client, box, true)
	if err == nil {
		box.Elsewhere = elsewhere(client)
	}
	if box.Elsewhere == 0 {
		box.Listen(time.Second)
	} else {
		time.Sleep(time.Second) // as long as Listen
	}
	if err == nil {
		box.Now, err = look(cmd.Context(), client, box, false)
	} else {
		box.Now.Kernel = box.KernelCounters()
	}
	if err == nil {
		box.Alarms, err = client.Alarms(cmd.Context())
	}
	if box.DaemonErr = err; err == nil {
		box.Stats, box.Services = box.Now.Stats, box.Now.Services
		if box.Elsewhere != 0 { // what is wrong with it here is right there
			_, box.Warnings, box.ConfigErr = conf.Load(configPath, nil)
		}
	} else if none := (*api.NoDaemon)(nil); !errors.As(err, &none) && cmd.Flags().Changed("socket") {
		return nil, err // it runs, but the request failed
	}
	return doctor.Run(box), nil
}

// mostConns bounds how many connections that are being opened a look has.
const mostConns = 10000

// look returns what is counted now. Without a daemon that is what the kernel counts. Connections
// that are opened while it looks count for neither: at the first look they come before the counters
// of backends, and later after them.
func look(ctx context.Context, client *api.Client, box *doctor.Box, first bool) (l doctor.Look, err error) {
	l.Kernel = box.KernelCounters()
	stats, err := client.Stats(ctx)
	if err != nil {
		return l, err
	}
	l.Stats = &stats
	list := func() { l.Services, err = client.List(ctx) }
	conns := func() { l.Conns, err = client.Conns(ctx, api.ConnQuery{State: "SYN_RECV", Limit: mostConns}) }
	steps := []func(){list, conns}
	if first {
		slices.Reverse(steps)
	}
	for _, step := range steps {
		if step(); err != nil {
			break
		}
	}
	return l, err
}

// elsewhere returns the process of the daemon if its network namespace is not that of this thread.
func elsewhere(client *api.Client) int {
	pid := client.PID()
	if pid == 0 { // the kernel does not name processes outside of the PID namespace
		return doctor.InContainer
	}
	ours, err := os.Readlink("/proc/thread-self/ns/net")
	theirs, err2 := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil || err2 != nil || ours == theirs {
		return 0
	}
	return pid
}

func count(findings []doctor.Finding, severity doctor.Severity) (n int) {
	for _, f := range findings {
		if f.Severity == severity {
			n++
		}
	}
	return n
}

// findingTable prints a line for each finding, and its fix below it.
func findingTable(w io.Writer, findings []doctor.Finding) error {
	out := bufio.NewWriter(w)
	for _, f := range findings {
		fmt.Fprintf(out, "%-8s %-13s %s\n", f.Severity, f.Check, text.OneLine(f.Text))
		if f.Fix != "" {
			fmt.Fprintf(out, "%-8s %-13s -> %s\n", "", "", text.OneLine(f.Fix))
		}
	}
	fmt.Fprintf(out, "%d problems, %d warnings, %d notes\n",
		count(findings, doctor.Problem), count(findings, doctor.Warning), count(findings, doctor.Note))
	return out.Flush()
}
