package main

import (
	"github.com/spf13/cobra"

	"sluice/cmd/cli"
)

// newManual returns the hidden verb that packages are built with.
func newManual() *cobra.Command {
	return &cobra.Command{
		Use:    "manual DIRECTORY",
		Short:  "Write man pages and shell completions, for packages",
		Hidden: true,
		Long: "Manual writes man8/pktgen*.8, one page for each command, and completion scripts for bash, zsh and fish, in their\n" +
			"directories below DIRECTORY.",
		Example: "  pktgen manual /usr/share",
		Args:    cli.Arguments("DIRECTORY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return cli.Manual{Root: cmd.Root(), Files: [][2]string{
				{"/usr/share/doc/sluice/tools/pktgen/README.md", "The manual, with examples and the ways to send and to receive."},
			}}.Write(args[0])
		},
	}
}
