package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/cmd/sluice/text"
	"sluice/engine/api"
)

// maxDown is how many of the backends that are down status names.
const maxDown = 20

func newStatus() *cobra.Command {
	var flags daemonFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what runs, since when, and what needs attention",
		Long: "Status shows the daemon's version, the running configuration, the result of the last reload, what was taken over\n" +
			"from a daemon that was killed or upgraded, a configuration that waits for its confirm, changes that wait for a\n" +
			"restart, the backends that are down, alarms, services with a full connection table, and overrides.\n" +
			"It exits with 1 if something needs attention: the last reload failed, a configuration waits for its confirm,\n" +
			"changes wait for a restart, a backend is down, an alarm is raised (a stuck worker is one), the state directory\n" +
			"can't be used, or nothing answers on [api] http. Each of these is one line on stderr. Otherwise it exits with 0.",
		Example: "  sluice status\n  sluice status -o json",
		Args:    cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			status, err := flags.client().Status(cmd.Context())
			if err != nil {
				return err
			}
			err = flags.output.print(cmd.OutOrStdout(), status, func(w io.Writer) error { return statusTable(w, &status) })
			if err == nil && len(status.Attention) > 0 {
				err = errors.New(strings.Join(status.Attention, "\n"))
			}
			return err
		},
	}
	flags.add(cmd)
	return cmd
}

// takeover says what went on from the daemon before.
func takeover(t *api.Takeover) string {
	s := fmt.Sprintf("%d connections, %d lost", t.Connections, t.Lost)
	if t.ConnectionsError != "" {
		s += ", and all that were not read: " + text.OneLine(t.ConnectionsError)
	}
	if t.LostInCrash > 0 {
		s += fmt.Sprintf(", %d packets lost", t.LostInCrash)
	}
	switch {
	case t.Error != "":
		s += "; all sockets were opened again: " + text.OneLine(t.Error)
	case t.Queues > 0:
		done := "forwarded"
		if t.Discarded {
			done = "discarded"
		}
		s += fmt.Sprintf("; %d sockets after %.1f s, with %d received packets, which were %s", t.Queues, t.AwayS, t.Received, done)
	}
	return s
}

func statusTable(w io.Writer, s *api.Status) error {
	out := bufio.NewWriter(w)
	lines := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(lines, name+"\t"+format+"\n", args...) }
	line("version", "%s, up for %s, %d workers", s.Version, text.Ago(s.UptimeS), s.Workers)
	line("configuration", "%s", s.Config.File)
	line("", "generation %d, loaded %s, sha256 %.12s, %d services, %d backends",
		s.Config.Generation, clock(s.Config.Loaded), s.Config.SHA256, s.Config.Services, s.Config.Backends)
	if s.Config.FileDiffers {
		line("", "the file has changed since: sluice plan shows how")
	}
	if s.Reload.OK {
		line("last reload", "%s: ok", clock(s.Reload.At))
	} else {
		line("last reload", "%s: failed: %s", clock(s.Reload.At), strings.ReplaceAll(s.Reload.Error, "\n", "\n\t"))
	}
	if p := s.Pending; p != nil {
		line("to be confirmed", "generation %d, within %s", p.Generation, time.Duration(p.LeftS*float64(time.Second)).Round(time.Second))
	}
	for i, change := range s.Restart {
		line(map[bool]string{true: "next start"}[i == 0], "%s", change)
	}
	if s.Upgrade != nil {
		line("upgrade", "%s", s.Upgrade)
	}
	if t := s.Takeover; t != nil {
		line("taken over", "%s", takeover(t))
	}
	line("backends", "%s", s.Backends)
	for _, b := range s.Down[:min(len(s.Down), maxDown)] {
		line("", "%s %s\t%s\t%s\t%s", b.Service, b.Backend, b.StateName, text.Ago(b.SinceS), text.OneLine(b.Why))
	}
	if n := s.Backends.Down - maxDown; n > 0 {
		line("", "and %d more: sluice health lists them", n)
	}
	for i, text := range api.AlarmTexts(s.Alarms) {
		line(map[bool]string{true: "alarms"}[i == 0], "%s", text)
	}
	if len(s.Alarms) == 0 {
		line("alarms", "none")
	}
	for i := range s.Pressure {
		p := &s.Pressure[i]
		line(map[bool]string{true: "pressure"}[i == 0], "%s, for %s: %s", p.Service, text.Ago(p.SinceS), p)
	}
	for i := range s.FirstPackets {
		f := &s.FirstPackets[i]
		line(map[bool]string{true: "first packets"}[i == 0], "%s, for %s: %s", f.Service, text.Ago(f.SinceS), f)
	}
	line("overrides", "%s", overridesLine(s.Overrides))
	line("state", "%s", stateLine(s))
	line("http", "%s", httpLine(s))
	return errors.Join(lines.Flush(), out.Flush())
}

// overridesLine returns the number of overrides by state.
func overridesLine(all []api.Override) string {
	if len(all) == 0 {
		return "none"
	}
	count := map[string]int{}
	for _, o := range all {
		count[o.State]++
	}
	var words []string
	for _, state := range []string{api.OverrideDrain, api.OverrideDisable, api.OverrideWeight} {
		if n := count[state]; n > 0 {
			words = append(words, fmt.Sprint(n, " ", state))
		}
	}
	return strings.Join(words, ", ") + ": sluice overrides lists them"
}

func stateLine(s *api.Status) string {
	switch {
	case s.StateDir == "":
		return "in memory only, as configured"
	case s.StateErr != "":
		return "in memory only: " + s.StateErr
	}
	return s.StateDir
}

func httpLine(s *api.Status) string {
	switch {
	case s.HTTP == "":
		return "off, as configured"
	case s.HTTPErr != "":
		return "nothing answers on " + s.HTTP + ": " + s.HTTPErr
	}
	return s.HTTP
}
