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
		Long: "Reload makes the daemon read its file again, like SIGHUP, and shows what changed. Connections keep their\n" +
			"backends. If the file has errors, they are shown and nothing changes. The daemon also refuses a file that\n" +
			"removes more than half of the running services or backends, or looks cut off: it is the beginning of the\n" +
			"running one, ends within a line or a table, or lacks the last line `# end` that the running one has. --force\n" +
			"accepts such a file; SIGHUP never does. `sluice plan` shows what would change.",
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
	cmd.Flags().BoolVar(&options.Force, "force", false, "accept a file that removes most services or backends, or looks cut off")
	return cmd
}

// printReload prints changes and warnings.
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
