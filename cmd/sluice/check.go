package main

import (
	"fmt"
	"io"
	"math"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/cmd/sluice/daemon"
	"sluice/conf"
	"sluice/engine/cpu"
	"sluice/engine/tables"
)

func newCheck() *cobra.Command {
	var configPath string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check a configuration and print every error in it",
		Long: "Check reads a configuration exactly as run and reload do, against the interfaces and addresses of this\n" +
			"machine, and changes nothing. It exits with 0 if run would accept the file, otherwise with 1 and all errors.\n" +
			"It prints the memory that the configuration takes.",
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
			if err != nil {
				return err
			}
			return printMemory(cmd.OutOrStdout(), cfg)
		},
	}
	cmd.Flags().StringVarP(&configPath, "config", "c", DefaultConfig, "configuration file")
	return cmd
}

// printMemory prints the memory that the configuration takes on this machine.
func printMemory(w io.Writer, cfg *conf.Config) error {
	workers := len(cfg.Engine.Cores)
	if workers == 0 {
		cores, err := cpu.Cores(nil)
		if err != nil {
			return fmt.Errorf("engine.cores: %w", err)
		}
		workers = len(cores)
	}
	m := tables.MemoryOf(cfg, workers)
	_, err := fmt.Fprintf(w, "memory: connection tables %s, mh tables %s, fullnat ports %s, workers %d\n",
		mebibytes(m.Connections), mebibytes(m.MH), mebibytes(m.SNATPools), workers)
	return err
}

func mebibytes(n int64) string { return fmt.Sprintf("%.0f MiB", math.Ceil(float64(n)/(1<<20))) }
