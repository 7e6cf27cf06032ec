// Package cli is the frame of this project's command lines: exit codes, how errors are printed, and
// commands that only have subcommands.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes of every command.
const (
	ExitDone   = 0
	ExitFailed = 1
	ExitUsage  = 2
)

// usageError is an error in the command line, as opposed to a command that failed.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Usage returns err as an error in the command line: the exit code is ExitUsage.
func Usage(err error) error { return usageError{err} }

// Execute runs one command line and returns the exit code. It prints each line of an error behind
// the name of the program, to stderr or where the command has set its own.
func Execute(ctx context.Context, root *cobra.Command, args []string, stdout, stderr io.Writer) int {
	parsed := false
	root.PersistentPreRun = func(*cobra.Command, []string) { parsed = true }
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return ExitDone
	}
	stderr = cmd.ErrOrStderr()
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			fmt.Fprintf(stderr, "%s: %s\n", root.Name(), line)
		}
	}
	if !parsed || errors.As(err, new(usageError)) {
		fmt.Fprintf(stderr, "%s: see %s --help\n", root.Name(), cmd.CommandPath())
		return ExitUsage
	}
	return ExitFailed
}

// Parent returns a command that has subcommands and does nothing by itself. Unlike cobra's default,
// its errors name the subcommands, and a command line without any is an error. unknown is the
// message for an unknown subcommand, with one verb for its name; missing is the message for none.
func Parent(unknown, missing string) *cobra.Command {
	return &cobra.Command{
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf(unknown+": must be one of %s", args[0], Subcommands(cmd))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return Usage(fmt.Errorf("%s: must be one of %s", missing, Subcommands(cmd)))
		},
	}
}

// Subcommands returns the names of the available subcommands, for messages.
func Subcommands(cmd *cobra.Command) string {
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return strings.Join(names, ", ")
}

// Arguments checks that there are as many arguments as names, e.g. "SERVICE", "BACKEND".
func Arguments(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == len(names):
			return nil
		case len(names) == 0:
			return fmt.Errorf("%s takes no arguments: %q is one", cmd.Name(), args[0])
		}
		return fmt.Errorf("%s takes %s: %d given", cmd.Name(), strings.Join(names, " "), len(args))
	}
}
