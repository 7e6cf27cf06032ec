package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/cmd/sluice/keeper"
	"sluice/engine/eventlog"
)

func newKeep() *cobra.Command {
	stuckAfter := 10 * time.Second
	cmd := &cobra.Command{
		Use:   "keep [--stuck-after 10s] -- run --config FILE",
		Short: "Run the daemon as a child, and start it again when it ends",

		DisableFlagsInUseLine: true,
		Long: "Keep is for containers and for use by hand; under systemd the unit does the same. It starts `sluice run` with the\n" +
			"flags given, holds what must outlive it, and starts it again when it is killed, crashes, or is stopped or stuck for\n" +
			"--stuck-after: at once, then after pauses. After five starts in a row that do not last it says why and ends.\n" +
			"Signals go to the daemon, and its exit status is the one of keep. A daemon that ends with an error at its first\n" +
			"start is not started again. When keep itself is killed, the daemon goes on without it.",
		Example: "  sluice keep -- run --config /etc/sluice/sluice.toml",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || args[0] != "run" {
				return errors.New("what follows must be `run` and its flags: sluice keep -- run --config FILE")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if stuckAfter < time.Second || stuckAfter > time.Hour {
				return cli.Usage(fmt.Errorf("--stuck-after %s: must be from 1s to 1h", stuckAfter))
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			log, err := eventlog.New(cmd.ErrOrStderr(), slog.LevelInfo, eventlog.Auto)
			if err != nil {
				return err
			}
			code, err := keeper.Run(keeper.Options{Path: self, Args: args, Log: log.Logger, StuckAfter: stuckAfter})
			log.Flush(time.Second)
			if err == nil && code != 0 {
				os.Exit(code) // the daemon has said why
			}
			return err
		},
	}
	cmd.Flags().SetInterspersed(false) // flags behind run are those of run
	cmd.Flags().DurationVar(&stuckAfter, "stuck-after", stuckAfter, "kill a daemon that gives no sign of life for so long")
	return cmd
}
