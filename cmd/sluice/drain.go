package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/engine/api"
)

func newDrain() *cobra.Command {
	var flags daemonFlags
	var deadline time.Duration
	var wait bool
	cmd := &cobra.Command{
		Use:   "drain SERVICE BACKEND",
		Short: "Give a backend no new connections; existing ones continue, or end at a deadline",
		Long: "Drain gives a backend no new connections; existing ones continue. With --deadline the daemon ends the remaining\n" +
			"ones after that time: TCP is reset in nat and fullnat, UDP moves to another backend. With --deadline or --wait\n" +
			"the verb shows the live connections until there are none; interrupting it does not end the drain. TCP connections\n" +
			"that have closed stay in the table for some minutes and are not live.\n" +
			"A drain survives reloads and restarts, and ends with `sluice enable` or `sluice weight`.\n" + namingHelp,
		Example: "  sluice drain web 10.0.0.11:8080\n  sluice drain web 10.0.0.11:8080 --deadline 5m\n" +
			"  sluice drain web 10.0.0.11:8080 --deadline 5m --wait=false\n  sluice drain web 10.0.0.11:8080 --wait",
		Args: cli.Arguments("SERVICE", "BACKEND"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkWithin("--deadline", deadline); err != nil {
				return err
			}
			if !cmd.Flags().Changed("wait") {
				wait = deadline > 0
			}
			request := api.OverrideRequest{Service: args[0], Backend: args[1], State: api.OverrideDrain, DeadlineS: deadline.Seconds()}
			if !wait {
				return override(cmd, flags, request)
			}
			b, err := followDrain(cmd, flags, request)
			if err != nil || flags.output == formatTable {
				return err
			}
			return flags.output.print(cmd.OutOrStdout(), b, nil)
		},
	}
	flags.add(cmd)
	cmd.Flags().DurationVar(&deadline, "deadline", 0, "end the remaining connections after this time, e.g. 5m; 0: never")
	cmd.Flags().BoolVar(&wait, "wait", false, "show progress until no live connection is left; on with --deadline")
	return cmd
}

// checkWithin returns an error for a time that the daemon would refuse.
func checkWithin(flag string, d time.Duration) error {
	if d < 0 || d.Seconds() > api.MaxDeadlineS {
		return cli.Usage(fmt.Errorf("%s %s: must be 0 to %s", flag, d, time.Duration(api.MaxDeadlineS)*time.Second))
	}
	return nil
}

// override implements drain, disable and enable.
func override(cmd *cobra.Command, flags daemonFlags, request api.OverrideRequest) error {
	b, err := flags.client().Override(cmd.Context(), request)
	if err != nil {
		return err
	}
	return flags.output.print(cmd.OutOrStdout(), b, func(w io.Writer) error {
		if err := printBackend(w, request.Service, b); err != nil {
			return err
		}
		switch {
		case request.State == api.OverrideDrain && request.DeadlineS > 0:
			_, err = fmt.Fprintf(w, "remaining connections end in %s\n", time.Duration(request.DeadlineS*float64(time.Second)))
		case request.State == api.OverrideEnable && b.ConfiguredWeight == 0:
			_, err = fmt.Fprintln(w, "the file gives it weight 0")
		}
		return err
	})
}
