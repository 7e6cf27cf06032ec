package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"sluice/cmd/cli"
	"sluice/conf"
)

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
		RunE:    func(cmd *cobra.Command, args []string) error { return writeManual(cmd.Root(), args[0]) },
	}
}

// writeManual writes all files below dir. The pages have the month of $SOURCE_DATE_EPOCH, or the
// current one.
func writeManual(root *cobra.Command, dir string) error {
	man8, man5 := filepath.Join(dir, "man", "man8"), filepath.Join(dir, "man", "man5")
	bash := filepath.Join(dir, "bash-completion", "completions", "sluice")
	zsh := filepath.Join(dir, "zsh", "vendor-completions", "_sluice")
	fish := filepath.Join(dir, "fish", "vendor_completions.d", "sluice.fish")
	for _, d := range []string{man8, man5, filepath.Dir(bash), filepath.Dir(zsh), filepath.Dir(fish)} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	root.InitDefaultCompletionCmd()
	root.DisableAutoGenTag = true
	header := &doc.GenManHeader{Section: "8", Source: "Sluice " + version, Manual: "Sluice"}
	unindentExamples(root)
	return errors.Join(
		doc.GenManTree(root, header, man8),
		os.WriteFile(filepath.Join(man5, "sluice.toml.5"), []byte(conf.Manual(version)), 0o644),
		root.GenBashCompletionFileV2(bash, true),
		root.GenZshCompletionFile(zsh),
		root.GenFishCompletionFile(fish, true),
	)
}

// unindentExamples removes the indent that examples have for --help: man pages add their own.
func unindentExamples(root *cobra.Command) {
	eachCommand(root, func(cmd *cobra.Command) {
		var lines []string
		for line := range strings.Lines(cmd.Example) {
			lines = append(lines, strings.TrimPrefix(line, "  "))
		}
		cmd.Example = strings.Join(lines, "")
	})
}
