package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the Makefile: -ldflags "-X main.version=1.2.3".
var version = "0.1.0-dev"

// build says what this binary is.
type build struct {
	Version string `json:"version"`
	Commit  string `json:"commit"` // "" if built outside a repository; ends in "-dirty" if that had changes
	Go      string `json:"go"`
	System  string `json:"system"`
}

func newVersion() *cobra.Command {
	var output format
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the version of this binary",
		Args:  arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := thisBuild()
			return output.print(cmd.OutOrStdout(), b, func(w io.Writer) error {
				commit := b.Commit
				if commit == "" {
					commit = "commit unknown"
				}
				_, err := fmt.Fprintf(w, "sluice %s (%s, %s, %s)\n", b.Version, commit, b.Go, b.System)
				return err
			})
		},
	}
	output.add(cmd)
	return cmd
}

func thisBuild() build {
	b := build{Version: version, Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	dirty := ""
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision":
			b.Commit = setting.Value[:min(12, len(setting.Value))]
		case setting.Key == "vcs.modified" && setting.Value == "true":
			dirty = "-dirty"
		}
	}
	if b.Commit != "" {
		b.Commit += dirty
	}
	return b
}
