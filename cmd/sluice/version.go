package main

import (
	"cmp"
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
)

// Set by the Makefile: -ldflags "-X main.version=1.2.3 -X main.commit=0123456789ab".
var (
	version = "0.1.0-dev"
	commit  = ""
)

// build describes this binary.
type build struct {
	Version string `json:"version"`
	Commit  string `json:"commit"` // "" if it was built outside of a repository
	Go      string `json:"go"`
	System  string `json:"system"`
}

func newVersion() *cobra.Command {
	var output format
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the version of this binary",
		Args:  cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := thisBuild()
			return output.print(cmd.OutOrStdout(), b, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "sluice %s (commit %s, %s, %s)\n", b.Version, cmp.Or(b.Commit, "unknown"), b.Go, b.System)
				return err
			})
		},
	}
	output.add(cmd)
	return cmd
}

func thisBuild() build {
	return build{Version: version, Commit: commit, Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH}
}
