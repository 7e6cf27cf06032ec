package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/engine/api"
)

func newUpgrade() *cobra.Command {
	var flags daemonFlags
	var binary string
	timeout := api.DefaultUpgradeTimeout
	cmd := &cobra.Command{
		Use:   "upgrade [--binary PATH]",
		Short: "Run another build in the daemon's place, with all connections",

		DisableFlagsInUseLine: true,
		Long: "Upgrade makes the daemon start the program at its own path again, which a package may have replaced, or another\n" +
			"one. The new process prepares with the running configuration, not with the file. Then it takes over sockets,\n" +
			"XDP programs and connections; for some ten milliseconds packets wait. The former process ends.\n" +
			"If the new one cannot run, the daemon goes on as it was, and upgrade says why and exits with 1.\n" +
			"The daemon must run under systemd or `sluice keep`. SIGTERM still stops it.",
		Example: "  sluice upgrade\n  sluice upgrade --binary /usr/local/sbin/sluice",
		Args:    cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if timeout < time.Second || timeout > api.MaxUpgradeTimeout {
				return cli.Usage(fmt.Errorf("--timeout %s: must be from 1s to %s", timeout, api.MaxUpgradeTimeout))
			}
			client := flags.client()
			client.Timeout = timeout // nothing answers for a moment, and longer on a slow machine
			u, err := client.Upgrade(cmd.Context(), api.UpgradeRequest{Binary: binary, TimeoutS: timeout.Seconds()})
			if err != nil {
				return err
			}
			return flags.output.print(cmd.OutOrStdout(), u, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, &u)
				return err
			})
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&binary, "binary", "", "absolute path of the program, instead of the path that the daemon was started from")
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "how long the new process may take to prepare")
	return cmd
}
