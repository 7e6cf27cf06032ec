package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/engine/api"
)

func newReload() *cobra.Command {
	var flags daemonFlags
	var options api.ReloadOptions
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Make the daemon read its file again",
		Long: "Reload makes the daemon read its file again, as SIGHUP does, and shows what changed. Connections keep\n" +
			"their backends. If the file has errors they are shown, and nothing changes. Nor does anything change if\n" +
			"the file would remove more than half of the services or of the backends that run, or looks cut off: a\n" +
			"file that is the beginning of the one that runs, ends within a line or a table, or has lost its last\n" +
			"line `# end`. --force takes such a file; SIGHUP never does. What would change, `sluice plan` says.",
		Example: "  sluice reload\n  sluice reload --force",
		Args:    cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			result, err := flags.client().Reload(cmd.Context(), options)
			if err != nil {
				return err
			}
			return flags.output.print(cmd.OutOrStdout(), result, func(w io.Writer) error {
				printReload(w, result)
				return nil
			})
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&options.Force, "force", false, "take a file that removes most of what runs, or looks cut off")
	return cmd
}

// printReload lists changes and warnings.
func printReload(w io.Writer, result api.ReloadResult) {
	for _, change := range result.Changes {
		fmt.Fprintln(w, change)
	}
	for _, warning := range result.Warnings {
		fmt.Fprintln(w, "warning:", warning)
	}
	if len(result.Changes)+len(result.Warnings) == 0 {
		fmt.Fprintln(w, "nothing changed")
	}
}
