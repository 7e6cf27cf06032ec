package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/engine/api"
)

func newOverrides() *cobra.Command {
	var flags daemonFlags
	cmd := &cobra.Command{
		Use:   "overrides",
		Short: "Show and clear overrides: drain, disable and weights set at run time",
		Long: "Overrides shows what drain, disable and weight have set. Overrides survive reloads and restarts. An override of a\n" +
			"backend that leaves the file applies again when the backend comes back.",
		Example: "  sluice overrides\n  sluice overrides clear web 10.0.0.11:8080\n  sluice overrides clear --all",
		Args:    cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := flags.client().Overrides(cmd.Context())
			if err != nil {
				return err
			}
			return flags.output.print(cmd.OutOrStdout(), all, func(w io.Writer) error { return overridesTable(w, all) })
		},
	}
	flags.add(cmd)
	cmd.AddCommand(newClearOverrides())
	return cmd
}

func newClearOverrides() *cobra.Command {
	var flags daemonFlags
	var everything bool
	cmd := &cobra.Command{
		Use:   "clear [SERVICE [BACKEND]]",
		Short: "Clear overrides, so that the file applies again",
		Long: "Clear removes the overrides of a backend, of all backends of a service, or, with --all, of all backends. It shows\n" +
			"them, and the overrides that are left; in JSON those that were cleared.\n" + namingHelp,
		Example: "  sluice overrides clear web\n  sluice overrides clear web 10.0.0.11:8080\n  sluice overrides clear --all",
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) > 2:
				return fmt.Errorf("clear takes at most SERVICE and BACKEND: %d given", len(args))
			case everything == (len(args) > 0):
				return errors.New("clear takes either a SERVICE or --all")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			args = append(args, "", "")
			cleared, err := flags.client().ClearOverrides(cmd.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			return flags.output.print(cmd.OutOrStdout(), cleared, func(w io.Writer) error {
				left, err := flags.client().Overrides(cmd.Context())
				if err != nil {
					return err
				}
				return errors.Join(titledOverrides(w, "cleared", cleared), titledOverrides(w, "left", left))
			})
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&everything, "all", false, "clear all overrides")
	return cmd
}

// titledOverrides prints what became of overrides, and these.
func titledOverrides(w io.Writer, title string, all []api.Override) error {
	if len(all) == 0 {
		_, err := fmt.Fprintf(w, "%s: none\n", title)
		return err
	}
	if _, err := fmt.Fprintf(w, "%s:\n", title); err != nil {
		return err
	}
	return overridesTable(w, all)
}

func overridesTable(w io.Writer, all []api.Override) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(w, "none")
		return err
	}
	return table(w, "SERVICE\tBACKEND\tSET\tWEIGHT\tDEADLINE\tSINCE\tIN THE FILE", func(columns io.Writer) {
		for _, o := range all {
			weight := "-"
			if o.Weight != nil {
				weight = fmt.Sprint(*o.Weight)
			}
			fmt.Fprintf(columns, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", o.Service, o.Backend, o.State, weight, deadlineText(o.Deadline), clock(o.Since), yesNo(o.Configured))
		}
	})
}

// deadlineText returns the time that is left of a drain.
func deadlineText(deadline time.Time) string {
	switch left := time.Until(deadline).Round(time.Second); {
	case deadline.IsZero():
		return "-"
	case left <= 0:
		return "over"
	default:
		return "in " + left.String()
	}
}

// clock formats a time in the operator's time zone.
func clock(t time.Time) string { return t.Local().Format(time.DateTime) }
