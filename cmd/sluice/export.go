package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/conf"
	"sluice/conf/ipvsadm"
	"sluice/engine"
	"sluice/engine/api"
)

func newExport() *cobra.Command {
	cmd := cli.Parent("unknown format %q", "missing the format to export to")
	cmd.Use = "export"
	cmd.Short = "Write services as another program's configuration"
	cmd.AddCommand(newExportIpvsadm())
	return cmd
}

func newExportIpvsadm() *cobra.Command {
	var configPath, socket string
	var out outputFile
	cmd := &cobra.Command{
		Use:   "ipvsadm",
		Short: "Write services as `ipvsadm -S -n` prints them, for `ipvsadm -R`",
		Long: "Writes the services of the running daemon with their current weights, or those of a file (--config), in the\n" +
			"format of `ipvsadm -S -n`. Settings that IPVS does not have are listed on stderr.",
		Example: "  sluice export ipvsadm | ipvsadm -R\n  sluice export ipvsadm --config sluice.toml -w ipvs.rules",
		Args:    cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if configPath != "" && cmd.Flags().Changed("socket") {
				return cli.Usage(errors.New("--config and --socket exclude each other"))
			}
			services, err := servicesToExport(cmd.Context(), configPath, socket)
			if err != nil {
				return err
			}
			text, notes := ipvsadm.Format(services)
			for _, note := range notes {
				fmt.Fprintln(cmd.ErrOrStderr(), "sluice:", note)
			}
			return out.write(cmd.OutOrStdout(), text)
		},
	}
	cmd.Flags().StringVarP(&configPath, "config", "c", "", "export this file instead of the daemon's services")
	cmd.Flags().StringVar(&socket, "socket", api.DefaultSocket, "control socket of the daemon")
	out.add(cmd)
	return cmd
}

// servicesToExport returns the services of a file, or those of the daemon if path is empty.
func servicesToExport(ctx context.Context, configPath, socket string) ([]conf.Service, error) {
	if configPath != "" {
		cfg, _, err := conf.Load(configPath, nil)
		if err != nil {
			return nil, err
		}
		return cfg.Services, nil
	}
	running, err := api.NewClient(socket).List(ctx)
	if api.Answered(err) != nil {
		return nil, err
	}
	return engine.Configured(running)
}
