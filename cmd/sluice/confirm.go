package main

import "github.com/spf13/cobra"

func newConfirm() *cobra.Command {
	var flags daemonFlags
	cmd := &cobra.Command{
		Use:   "confirm",
		Short: "Keep the configuration that was applied with --confirm",
		Long: "Confirm makes the configuration that runs since `sluice apply --confirm` permanent: the daemon's file is\n" +
			"replaced by it, and the former file stays beside it as FILE.previous.",
		Example: "  sluice confirm",
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			result, err := flags.client().Confirm(cmd.Context())
			return printApplied(cmd, flags, result, err)
		},
	}
	flags.add(cmd)
	return cmd
}
