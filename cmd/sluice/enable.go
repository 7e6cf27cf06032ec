package main

import (
	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/engine/api"
)

func newEnable() *cobra.Command {
	var flags daemonFlags
	cmd := &cobra.Command{
		Use:   "enable SERVICE BACKEND",
		Short: "Undo drain and disable",
		Long: "Enable undoes drain, disable and a weight of 0 set at run time. The backend then has its other run-time weight,\n" +
			"if one is set, else the weight in the file.\n" + namingHelp,
		Example: "  sluice enable web 10.0.0.11:8080",
		Args:    cli.Arguments("SERVICE", "BACKEND"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return override(cmd, flags, api.OverrideRequest{Service: args[0], Backend: args[1], State: api.OverrideEnable})
		},
	}
	flags.add(cmd)
	return cmd
}
