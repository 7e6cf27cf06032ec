package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/engine/api"
)

func newPlan() *cobra.Command {
	var flags daemonFlags
	var configPath string
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what a reload would change, and how many connections and clients it would move",
		Long: "Plan compares the daemon's file, or another one, with the running configuration, and changes nothing. For each\n" +
			"service that would change it shows its connections, how many of them would lose their backend, and, for the\n" +
			"schedulers sh, dh and mh, the percentage of clients that would get another backend for their next connection.\n" +
			"It exits with 0 whatever would change, and with 1 if the file is invalid or no daemon answers.",
		Example: "  sluice plan\n  sluice plan --config new.toml",
		Args:    cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var file api.File
			if configPath != "" {
				var err error
				if file, err = readFile(configPath); err != nil {
					return err
				}
			}
			plan, err := flags.client().Plan(cmd.Context(), file)
			if err != nil {
				return err
			}
			return flags.output.print(cmd.OutOrStdout(), plan, func(w io.Writer) error { return planTable(w, &plan) })
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVarP(&configPath, "config", "c", "", "file to compare with (default: the daemon's own)")
	return cmd
}

// readFile reads a configuration to send to the daemon, which may have no access to path.
func readFile(path string) (api.File, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return api.File{}, err
	}
	if len(text) == 0 {
		return api.File{}, fmt.Errorf("%s is empty", path)
	}
	if absolute, err := filepath.Abs(path); err == nil {
		path = absolute
	}
	return api.File{Name: path, Text: string(text)}, nil
}

func planTable(w io.Writer, p *api.Plan) error {
	out := bufio.NewWriter(w)
	list := func(title string, lines []string) {
		if len(lines) == 0 {
			return
		}
		fmt.Fprintln(out, title)
		for _, line := range lines {
			fmt.Fprintln(out, "  "+line)
		}
	}
	if len(p.Changes)+len(p.Restart) == 0 {
		fmt.Fprintf(out, "%s is the same as the running configuration\n", p.File)
	}
	list("would change:", p.Changes)
	list("would change at the next start only:", p.Restart)
	list("warnings:", p.Warnings)
	if len(p.Services) > 0 {
		servicesTable(out, p.Services)
		fmt.Fprintf(out, "%d of %d connections would lose their backend%s\n", p.Affected, p.Connections, percent(p.Affected, p.Connections))
	}
	list("a reload would refuse the file unless forced:", p.Refused)
	return out.Flush()
}

func servicesTable(out io.Writer, services []api.ServicePlan) {
	columns := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(columns, "SERVICE\tDOES\tCONNECTIONS\tLOST\tCLIENTS MOVED")
	for _, s := range services {
		moved := "-"
		if s.ClientsMoved != nil {
			moved = fmt.Sprintf("%.1f%%", 100**s.ClientsMoved)
		}
		fmt.Fprintf(columns, "%s\t%s\t%d\t%d%s\t%s\n", s.Name, s.Does, s.Connections, s.Affected, percent(s.Affected, s.Connections), moved)
		for _, b := range s.Backends {
			weight := fmt.Sprintf("weight %d -> %d", b.Weight, b.NewWeight)
			switch {
			case b.Does == api.PlanAdd:
				weight = fmt.Sprintf("weight %d", b.NewWeight)
			case b.Does == api.PlanRemove:
				weight = ""
			case b.Weight == b.NewWeight:
				weight = fmt.Sprintf("weight %d", b.Weight)
			}
			if b.Override != "" {
				weight += " (" + b.Override + " set at run time)"
			}
			lost := ""
			if b.Does == api.PlanRemove {
				lost = fmt.Sprint(b.Affected)
			}
			fmt.Fprintf(columns, "  %s\t%s\t%d\t%s\t%s\n", b.Backend, b.Does, b.Connections, lost, weight)
		}
	}
	_ = columns.Flush() // out is a buffer
}

// percent returns the percentage in parentheses, or "" if there is none.
func percent(part, of uint64) string {
	if part == 0 || of == 0 {
		return ""
	}
	return fmt.Sprintf(" (%.1f%%)", 100*float64(part)/float64(of))
}
