package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"sluice/cmd/sluice/text"
	"sluice/engine/api"
)

// healthReport is the JSON that health prints.
type healthReport struct {
	Alarms   []api.Alarm     `json:"alarms"`
	Services []healthService `json:"services"`
}

type healthService struct {
	Name         string            `json:"name"`
	HealthFrozen bool              `json:"health_frozen"`
	States       api.BackendCounts `json:"states"`
	StateName    string            `json:"state_name"`
	StateNote    string            `json:"state_note,omitempty"`
	Backends     []api.Backend     `json:"backends"`
	Sorry        *api.Backend      `json:"sorry,omitempty"`
}

func newHealth() *cobra.Command {
	var flags daemonFlags
	cmd := &cobra.Command{
		Use:   "health [SERVICE]",
		Short: "Show alarms and the state of each backend, since when and why; freeze and thaw states",
		Long: "Health shows the current alarms, and the state of each backend with its time and reason.\n" +
			"A backend in state \"down (in use)\" still gets new connections, because too few backends would be left.\n" +
			"SERVICE is the name in the file, or protocol and address: \"tcp 198.51.100.10:80\".",
		Example: "  sluice health\n  sluice health web\n  sluice health freeze web",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("%s takes at most one SERVICE, or freeze or thaw: %d arguments given", cmd.Name(), len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			report, err := healthOf(cmd, flags.client(), args)
			if err != nil {
				return err
			}
			return flags.output.print(cmd.OutOrStdout(), report, func(w io.Writer) error { return healthTable(w, report) })
		},
	}
	flags.add(cmd)
	cmd.AddCommand(
		newFreeze("freeze", true, "Keep the states of one service's backends, or of all, regardless of checks",
			"Freeze keeps the states of one service's backends, or of all services, as they are until thaw. Checks continue, and\n"+
				"`sluice health` shows their results, but states do not change. A freeze survives reloads, but not a restart.\n"),
		newFreeze("thaw", false, "Let checks decide states again",
			"Thaw ends a freeze: the latest results of the checks apply at once.\n"))
	return cmd
}

func newFreeze(verb string, frozen bool, short, long string) *cobra.Command {
	var flags daemonFlags
	cmd := &cobra.Command{
		Use: verb + " [SERVICE]", Short: short,
		Long:    long + "Without SERVICE it applies to all services.",
		Example: fmt.Sprintf("  sluice health %s web\n  sluice health %s", verb, verb),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("%s takes at most one SERVICE: %d given", cmd.Name(), len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			names, err := flags.client().FreezeHealth(cmd.Context(), strings.Join(args, ""), frozen)
			if err != nil {
				return err
			}
			return flags.output.print(cmd.OutOrStdout(), map[string][]string{"frozen": names}, func(w io.Writer) error {
				list := strings.Join(names, " ")
				if list == "" {
					list = "none"
				}
				_, err := fmt.Fprintf(w, "services with frozen health: %s\n", list)
				return err
			})
		},
	}
	flags.add(cmd)
	return cmd
}

// healthOf returns all services, or the one that args name, and their alarms.
func healthOf(cmd *cobra.Command, client api.Control, args []string) (healthReport, error) {
	report := healthReport{Alarms: []api.Alarm{}}
	services, err := client.List(cmd.Context())
	if err != nil {
		return report, err
	}
	if len(args) == 1 {
		s, err := api.FindService(services, args[0])
		if err != nil {
			return report, err
		}
		services = []api.Service{s}
	}
	alarms, err := client.Alarms(cmd.Context())
	if err != nil {
		return report, err
	}
	for _, a := range alarms {
		if a.Service == "" || len(args) == 0 || a.Service == services[0].Name {
			report.Alarms = append(report.Alarms, a)
		}
	}
	for _, s := range services {
		report.Services = append(report.Services, healthService{s.Name, s.HealthFrozen, s.States, s.StateName, s.StateNote, s.Backends, s.Sorry})
	}
	return report, nil
}

func healthTable(w io.Writer, report healthReport) error {
	out := bufio.NewWriter(w)
	for _, a := range report.Alarms {
		where := a.Service
		if where == "" {
			where = "all services"
		}
		fmt.Fprintf(out, "ALARM %s, for %s: %s\n", where, text.Ago(a.SinceS), text.OneLine(a.Text))
	}
	services := make([]api.Service, len(report.Services))
	for i, s := range report.Services {
		services[i] = api.Service{Name: s.Name, HealthFrozen: s.HealthFrozen, Backends: s.Backends, Sorry: s.Sorry}
	}
	width, states := endpointWidth(services, len("BACKEND")), stateWidth(services)
	fmt.Fprintf(out, "  %-*s  %-*s %-8s %s\n", width, "BACKEND", states, "STATE", "SINCE", "WHY")
	for _, s := range services {
		fmt.Fprintf(out, "%s %s%s\n", s.Name, fraction(s), frozenFlag(s))
		for i, b := range serversOf(s) {
			fmt.Fprintf(out, "  %-*s  %s%s\n", width, b.Endpoint(), condition(b, states, true), sorryMark(i, s.Backends))
		}
	}
	return out.Flush()
}

// serversOf returns the backends of a service, then its sorry server if it has one.
func serversOf(s api.Service) []api.Backend {
	if s.Sorry == nil {
		return s.Backends
	}
	return append(s.Backends[:len(s.Backends):len(s.Backends)], *s.Sorry)
}

// sorryMark returns what ends the line of server i of serversOf if it is the sorry server.
func sorryMark(i int, backends []api.Backend) string {
	if i == len(backends) {
		return " (sorry server)"
	}
	return ""
}

// fraction returns the states of a service's backends as every view shows them: "12/12 down (6 in
// use)".
func fraction(s api.Service) string {
	words := api.CountBackends(s).Fraction()
	if note := api.ServiceNote(s); note != "" {
		words += " (" + note + ")"
	}
	return words
}

// frozenFlag returns what follows the name of a service in listings.
func frozenFlag(s api.Service) string {
	if s.HealthFrozen {
		return " frozen"
	}
	return ""
}

// alarmLines prints the alarms of a service below its backends, except the one that it is frozen.
func alarmLines(w io.Writer, alarms []api.Alarm) {
	for _, a := range alarms {
		if a.Kind != api.AlarmFrozen {
			fmt.Fprintf(w, "  !! %s (for %s)\n", text.OneLine(a.Text), text.Ago(a.SinceS))
		}
	}
}
