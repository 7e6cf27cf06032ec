package main

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/cmd/sluice/daemon"
	"sluice/engine/eventlog"
)

func newRun() *cobra.Command {
	var configPath, socket string
	level, format := slog.LevelInfo, eventlog.Auto
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the load balancer in the foreground",
		Long: "Run is the daemon. It logs to stderr, prints one line containing `ready` when packets flow, reloads its file\n" +
			"on SIGHUP, and stops on SIGTERM or SIGINT. A second SIGTERM or SIGINT ends it at once, without cleaning up.\n" +
			"It never waits for its log: lines that cannot be written are dropped, and counted.",
		Args: cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(eventlog.Formats, format) {
				return cli.Usage(fmt.Errorf("--log-format %q: must be one of %s", format, strings.Join(eventlog.Formats, ", ")))
			}
			log, err := eventlog.New(cmd.ErrOrStderr(), level, format)
			if err != nil {
				return err
			}
			cmd.SetErr(eventlog.Impatient(cmd.ErrOrStderr())) // for the error that ends the daemon
			return daemon.Run(cmd.Context(), daemon.Options{ConfigPath: configPath, Socket: socket, Version: version, Log: log})
		},
	}
	cmd.Flags().StringVarP(&configPath, "config", "c", DefaultConfig, "configuration file")
	cmd.Flags().StringVar(&socket, "socket", "", "control socket, instead of the file's [api] socket")
	cmd.Flags().Var(levelFlag{&level}, "log-level", "DEBUG, INFO, WARN or ERROR")
	cmd.Flags().StringVar(&format, "log-format", eventlog.Auto, strings.Join(eventlog.Formats, ", ")+": auto is journal if stderr is the journal, else text")
	return cmd
}

// levelFlag is the value of --log-level.
type levelFlag struct{ *slog.Level }

func (levelFlag) Type() string { return "LEVEL" }

func (l levelFlag) Set(text string) error {
	if l.UnmarshalText([]byte(text)) != nil {
		return fmt.Errorf("%q is not one of DEBUG, INFO, WARN, ERROR", text)
	}
	return nil
}
