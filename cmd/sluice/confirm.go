package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
)

func newConfirm() *cobra.Command {
	var flags daemonFlags
	cmd := &cobra.Command{
		Use:   "confirm",
		Short: "Keep the configuration that was applied with --confirm",
		Long: "Confirm makes the configuration of `sluice apply --confirm` permanent: it replaces the daemon's file, and the\n" +
			"former file stays beside it as FILE.previous.",
		Example: "  sluice confirm",
		Args:    cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			result, err := flags.client().Confirm(cmd.Context())
			if err != nil {
				return err
			}
			return flags.output.print(cmd.OutOrStdout(), result, func(w io.Writer) error {
				for _, warning := range result.Warnings {
					fmt.Fprintln(w, "warning:", warning)
				}
				_, err := fmt.Fprintf(w, "generation %d confirmed\n", result.Generation)
				return err
			})
		},
	}
	flags.add(cmd)
	return cmd
}
