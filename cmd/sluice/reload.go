package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func newReload() *cobra.Command {
	var flags daemonFlags
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Make the daemon read its file again",
		Long: "Reload makes the daemon read its file again, as SIGHUP does, and shows what changed. Connections keep\n" +
			"their backends. If the file has errors they are shown, and nothing changes.",
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			result, err := flags.client().Reload(cmd.Context())
			if err != nil {
				return err
			}
			return flags.output.print(cmd.OutOrStdout(), result, func(w io.Writer) error {
				for _, change := range result.Changes {
					fmt.Fprintln(w, change)
				}
				for _, warning := range result.Warnings {
					fmt.Fprintln(w, "warning:", warning)
				}
				if len(result.Changes)+len(result.Warnings) == 0 {
					fmt.Fprintln(w, "nothing changed")
				}
				return nil
			})
		},
	}
	flags.add(cmd)
	return cmd
}
