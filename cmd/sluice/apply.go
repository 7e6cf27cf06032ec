package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/engine/api"
)

func newApply() *cobra.Command {
	var flags daemonFlags
	var confirm time.Duration
	var request api.ApplyRequest
	cmd := &cobra.Command{
		Use:   "apply FILE",
		Short: "Run another configuration; with --confirm only for a while, unless it is confirmed",
		Long: "Apply makes another file's configuration the running one and replaces the daemon's file by it; the former file\n" +
			"stays beside it as FILE.previous. With --confirm the daemon's file stays as it is until `sluice confirm`, and if\n" +
			"that does not come in time, what ran before comes back by itself, whatever became of whoever applied. Meanwhile\n" +
			"the daemon takes no other configuration. What reload refuses, apply refuses, unless forced.",
		Example: "  sluice plan --config new.toml\n  sluice apply new.toml --confirm 60s\n  sluice confirm",
		Args:    cli.Arguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if err := checkWithin("--confirm", confirm); err != nil {
				return err
			}
			request.ConfirmS = confirm.Seconds()
			if request.File, err = readFile(args[0]); err != nil {
				return err
			}
			result, err := flags.client().Apply(cmd.Context(), request)
			return printApplied(cmd, flags, result, err)
		},
	}
	flags.add(cmd)
	cmd.Flags().DurationVar(&confirm, "confirm", 0, "go back after so long unless sluice confirm comes, e.g. 60s; 0: keep it at once")
	cmd.Flags().BoolVar(&request.Force, "force", false, "take a file that removes most of what runs, or looks cut off")
	return cmd
}

// printApplied says what runs now.
func printApplied(cmd *cobra.Command, flags daemonFlags, result api.ApplyResult, err error) error {
	if err != nil {
		return err
	}
	return flags.output.print(cmd.OutOrStdout(), result, func(w io.Writer) error {
		printReload(w, result.ReloadResult)
		if p := result.Pending; p != nil {
			_, err := fmt.Fprintf(w, "generation %d runs until %s; to keep it: sluice confirm, to go back at once: sluice rollback\n",
				result.Generation, p.Deadline.Local().Format(time.TimeOnly))
			return err
		}
		_, err := fmt.Fprintf(w, "generation %d runs\n", result.Generation)
		return err
	})
}
