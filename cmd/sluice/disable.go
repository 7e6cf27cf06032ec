package main

import (
	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/engine/api"
)

func newDisable() *cobra.Command {
	var flags daemonFlags
	cmd := &cobra.Command{
		Use:   "disable SERVICE BACKEND",
		Short: "Take a backend out at once: no new connections, and existing ones end",
		Long: "Disable gives a backend no new connections and ends existing ones: TCP is reset in nat and fullnat, UDP moves\n" +
			"to another backend. It survives reloads and restarts, and ends with `sluice enable` or `sluice weight`.\n" + namingHelp,
		Example: "  sluice disable web 10.0.0.11:8080",
		Args:    cli.Arguments("SERVICE", "BACKEND"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return override(cmd, flags, api.OverrideRequest{Service: args[0], Backend: args[1], State: api.OverrideDisable})
		},
	}
	flags.add(cmd)
	return cmd
}
