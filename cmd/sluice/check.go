package main

import (
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/spf13/cobra"

	"sluice/cmd/sluice/daemon"
	"sluice/conf"
	"sluice/engine/cpu"
	"sluice/engine/tables"
)

func newCheck() *cobra.Command {
	var configPath string
	var offline bool
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Check a configuration and print every error in it",
		Long: "Check reads a configuration exactly as run and reload do, against the interfaces and addresses of this\n" +
			"machine, and changes nothing. It exits with 0 if run would accept the file, otherwise with 1 and all errors.\n" +
			"It prints the memory that the configuration takes.\n\n" +
			"With --offline it reads the file only, and asks nothing of this machine: for a file of another machine, as in CI.",
		Example: "  sluice check\n  sluice check --offline boxes/lb1.toml",
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) > 1:
				return fmt.Errorf("check takes one FILE: %d given", len(args))
			case len(args) == 1 && cmd.Flags().Changed("config"):
				return errors.New("FILE and --config exclude each other")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				configPath = args[0]
			}
			load := daemon.LoadConfig
			if offline {
				load = func(path string) (*conf.Config, []conf.Problem, error) { return conf.Load(path, nil) }
			}
			cfg, warnings, err := load(configPath)
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
			// Without cores the number of workers, and with it the memory, depends on the machine.
			if err != nil || offline && len(cfg.Engine.Cores) == 0 {
				return err
			}
			return printMemory(cmd.OutOrStdout(), cfg)
		},
	}
	cmd.Flags().StringVarP(&configPath, "config", "c", DefaultConfig, "configuration file")
	cmd.Flags().BoolVar(&offline, "offline", false, "ask nothing of this machine")
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
	_, err := fmt.Fprintf(w, "memory: connection tables %s, mh tables %s, fullnat ports %s to %s, workers %d\n",
		mebibytes(m.Connections), mebibytes(m.MH), mebibytes(m.SNATPools), mebibytes(m.SNATPoolsMost), workers)
	return err
}

func mebibytes(n int64) string { return fmt.Sprintf("%.0f MiB", math.Ceil(float64(n)/(1<<20))) }
