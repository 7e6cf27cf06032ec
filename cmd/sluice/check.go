package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/cmd/sluice/daemon"
)

func newCheck() *cobra.Command {
	var configPath string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check a configuration and print every error in it",
		Long: "Check reads a configuration exactly as run and reload do, against the interfaces and addresses of this\n" +
			"machine, and changes nothing. It exits with 0 if run would accept the file, otherwise with 1 and all errors.",
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, warnings, err := daemon.LoadConfig(configPath)
			for _, warning := range warnings {
				fmt.Fprintln(cmd.ErrOrStderr(), "sluice: warning:", warning.Error())
			}
			if err != nil {
				return err
			}
			backends := 0
			for _, s := range cfg.Services {
				backends += len(s.Backends)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: valid: ports=%d services=%d backends=%d\n",
				configPath, len(cfg.Ports), len(cfg.Services), backends)
			return err
		},
	}
	cmd.Flags().StringVarP(&configPath, "config", "c", DefaultConfig, "configuration file")
	return cmd
}
