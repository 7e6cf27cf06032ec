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
		Short: "Run another configuration; with --confirm, go back to the former one unless confirmed",
		Long: "Apply runs the configuration in another file and replaces the daemon's file with it. The former file stays\n" +
			"beside it as FILE.previous. With --confirm, the daemon's file is not replaced until `sluice confirm`. Without a\n" +
			"confirm in time, the daemon returns to the former configuration by itself, even if you have lost access.\n" +
			"Until then it accepts no other configuration. Like reload, apply refuses a file that looks damaged; --force\n" +
			"overrides that.",
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
	cmd.Flags().DurationVar(&confirm, "confirm", 0, "go back after this time unless confirmed, e.g. 60s; 0: no confirm needed")
	cmd.Flags().BoolVar(&request.Force, "force", false, "accept a file that removes most services or backends, or looks cut off")
	return cmd
}

// printApplied prints the result of an apply.
func printApplied(cmd *cobra.Command, flags daemonFlags, result api.ApplyResult, err error) error {
	if err != nil {
		return err
	}
	return flags.output.print(cmd.OutOrStdout(), result, func(w io.Writer) error {
		printReload(w, result.ReloadResult)
		if p := result.Pending; p != nil {
			_, err := fmt.Fprintf(w, "generation %d runs until %s; keep it with sluice confirm, go back at once with sluice rollback\n",
				result.Generation, p.Deadline.Local().Format(time.TimeOnly))
			return err
		}
		_, err := fmt.Fprintf(w, "generation %d runs\n", result.Generation)
		return err
	})
}
