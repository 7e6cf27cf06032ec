package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/engine/api"
)

func newRollback() *cobra.Command {
	var flags daemonFlags
	var list bool
	cmd := &cobra.Command{
		Use:   "rollback [N]",
		Short: "Run an earlier configuration again",
		Long: "Rollback runs generation N again, by default the previous one, and replaces the daemon's file with it. After an\n" +
			"edit that the daemon refuses, the default is what runs: only the file is restored. The present file stays beside\n" +
			"it as FILE.previous. While a configuration waits for its confirm, rollback ends the wait and returns to the\n" +
			"former one. --list shows the stored generations: the last ten. Overrides stay as they are.",
		Example: "  sluice rollback --list\n  sluice rollback\n  sluice rollback 12",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 || list && len(args) > 0 {
				return errors.New("rollback takes at most one generation N, and none with --list")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if list {
				return listGenerations(cmd, flags)
			}
			generation := 0
			if len(args) > 0 {
				n, err := strconv.Atoi(args[0])
				if err != nil || n < 1 {
					return cli.Usage(fmt.Errorf("generation %q is not a number from 1", args[0]))
				}
				generation = n
			}
			result, err := flags.client().Rollback(cmd.Context(), generation)
			return printApplied(cmd, flags, result, err)
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&list, "list", false, "show the stored generations")
	return cmd
}

func listGenerations(cmd *cobra.Command, flags daemonFlags) error {
	all, err := flags.client().Generations(cmd.Context())
	if err != nil {
		return err
	}
	return flags.output.print(cmd.OutOrStdout(), all, func(w io.Writer) error { return generationsTable(w, all) })
}

func generationsTable(w io.Writer, all []api.Generation) error {
	return table(w, "N\tLOADED\tBY\tSHA256\t", func(columns io.Writer) {
		for _, g := range all {
			running := ""
			if g.Running {
				running = "runs"
			}
			fmt.Fprintf(columns, "%d\t%s\t%s\t%.12s\t%s\n", g.Number, clock(g.Loaded), g.Cause, g.SHA256, running)
		}
	})
}
