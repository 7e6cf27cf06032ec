package main

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/conf"
	"sluice/engine/api"
)

// files lists what an installed Sluice has, for sluice(8).
var files = [][2]string{
	{DefaultConfig, "The configuration: sluice.toml(5) describes every key."},
	{api.DefaultSocket, "The control socket of the daemon, for root and the user sluice."},
	{"/var/lib/sluice", "Overrides and former configurations, for sluice rollback."},
	{"/lib/systemd/system/sluice.service", "The unit. Change settings with systemctl edit sluice."},
	{"/usr/share/sluice", "Alert rules for Prometheus and a dashboard for Grafana."},
	{"/usr/share/doc/sluice", "The manual: begin with README.md. CHANGELOG.md has what changed."},
	{"/usr/share/doc/sluice/examples", "A configuration for each mode."},
}

// newManual returns the hidden verb that packages are built with.
func newManual() *cobra.Command {
	return &cobra.Command{
		Use:    "manual DIRECTORY",
		Short:  "Write man pages and shell completions, for packages",
		Hidden: true,
		Long: "Manual writes man8/sluice*.8, one page for each command, man5/sluice.toml.5 with every key of the configuration,\n" +
			"and completion scripts for bash, zsh and fish, in their directories below DIRECTORY.",
		Example: "  sluice manual /usr/share",
		Args:    cli.Arguments("DIRECTORY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			man5 := filepath.Join(args[0], "man", "man5")
			if err := os.MkdirAll(man5, 0o755); err != nil {
				return err
			}
			return errors.Join(
				cli.Manual{Root: cmd.Root(), Version: version, Files: files}.Write(args[0]),
				os.WriteFile(filepath.Join(man5, "sluice.toml.5"), []byte(conf.Manual(version)), 0o644),
			)
		},
	}
}
