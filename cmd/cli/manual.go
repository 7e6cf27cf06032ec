package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// Manual is what man pages and completion scripts are made from.
type Manual struct {
	Root    *cobra.Command // changed: give it to nothing else
	Version string
	Files   [][2]string // paths and what they are, for the page of Root
}

// Write writes man/man8, with a page for each command, and completion scripts for bash, zsh and
// fish, in their directories below dir. The pages have the month of $SOURCE_DATE_EPOCH, or the
// current one.
func (m Manual) Write(dir string) error {
	root, name := m.Root, m.Root.Name()
	man8 := filepath.Join(dir, "man", "man8")
	bash := filepath.Join(dir, "bash-completion", "completions", name)
	zsh := filepath.Join(dir, "zsh", "vendor-completions", "_"+name)
	fish := filepath.Join(dir, "fish", "vendor_completions.d", name+".fish")
	for _, d := range []string{man8, filepath.Dir(bash), filepath.Dir(zsh), filepath.Dir(fish)} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	root.InitDefaultCompletionCmd()
	root.DisableAutoGenTag = true
	unindentExamples(root)
	root.Use, root.DisableFlagsInUseLine = name+" COMMAND [ARGUMENT...]", true
	root.Long = m.overview()
	pages := doc.GenManTree(root, &doc.GenManHeader{Section: "8", Source: strings.TrimSpace("Sluice " + m.Version), Manual: "Sluice"}, man8)
	return errors.Join(pages, root.GenBashCompletionFileV2(bash, true), root.GenZshCompletionFile(zsh), root.GenFishCompletionFile(fish, true))
}

// overview returns the sections of the first page that cobra does not write, as Markdown: what each
// command does, exit codes and files.
func (m Manual) overview() string {
	var b strings.Builder
	b.WriteString(m.Root.Long + "\n\n# COMMANDS\n")
	EachCommand(m.Root, func(cmd *cobra.Command) {
		if cmd != m.Root && cmd.IsAvailableCommand() && cmd.Parent().Name() != "completion" {
			define(&b, cmd.UseLine(), cmd.Short)
		}
	})
	b.WriteString("# EXIT STATUS\n")
	define(&b, "0", "Done.")
	define(&b, "1", "The command failed, or found something wrong.")
	define(&b, "2", "The command line was wrong.")
	if len(m.Files) > 0 {
		b.WriteString("# FILES\n")
	}
	for _, file := range m.Files {
		define(&b, file[0], file[1])
	}
	return b.String()
}

// define writes an entry of a list of definitions, as Markdown.
func define(b *strings.Builder, term, text string) {
	b.WriteString("**" + markdown.Replace(term) + "**\n: " + markdown.Replace(text) + "\n\n")
}

// markdown escapes what Markdown would take for markup.
var markdown = strings.NewReplacer(`\`, `\\`, "*", `\*`, "_", `\_`, "`", "\\`", "<", `\<`, "[", `\[`)

// EachCommand calls f for a command and all below it.
func EachCommand(cmd *cobra.Command, f func(*cobra.Command)) {
	f(cmd)
	for _, sub := range cmd.Commands() {
		EachCommand(sub, f)
	}
}

// unindentExamples removes the indent that examples have for --help: man pages add their own.
func unindentExamples(root *cobra.Command) {
	EachCommand(root, func(cmd *cobra.Command) {
		var lines []string
		for line := range strings.Lines(cmd.Example) {
			lines = append(lines, strings.TrimPrefix(line, "  "))
		}
		cmd.Example = strings.Join(lines, "")
	})
}
