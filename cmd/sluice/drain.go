package main

import "github.com/spf13/cobra"

func newDrain() *cobra.Command {
	var flags daemonFlags
	cmd := &cobra.Command{
		Use:   "drain SERVICE BACKEND",
		Short: "Give a backend no new connections; those it has go on",
		Long: "Drain sets a backend's weight to 0: it gets no new connections, and those it has go on.\n" +
			"It is empty when `sluice list` shows no active ones any more; `sluice weight` brings it back.\n" + namingHelp,
		Example: "  sluice drain web 10.0.0.11:8080",
		Args:    arguments("SERVICE", "BACKEND"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return setWeight(cmd, flags, args[0], args[1], 0)
		},
	}
	flags.add(cmd)
	return cmd
}
