package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"sluice/engine/api"
)

// DefaultConfig is the file that run and check read when nobody says otherwise.
const DefaultConfig = "/etc/sluice/sluice.toml"

// Exit codes of every verb.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// usageError is a command line that cannot be understood, as opposed to a thing that could not be
// done.
type usageError struct{ error }

// execute runs one command line and gives the exit code. Each line of an error is printed for
// itself.
func execute(args []string, stdout, stderr io.Writer) int {
	understood := false
	root := newRoot()
	root.PersistentPreRun = func(*cobra.Command, []string) { understood = true }
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteC()
	if err == nil {
		return exitDone
	}
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			fmt.Fprintf(stderr, "sluice: %s\n", line)
		}
	}
	if !understood || errors.As(err, new(usageError)) {
		fmt.Fprintf(stderr, "sluice: see %s --help\n", cmd.CommandPath())
		return exitUsage
	}
	return exitFailed
}

func newRoot() *cobra.Command {
	root := parent("unknown command %q", "say what to do")
	root.Use = "sluice"
	root.Short = "Layer-4 load balancer on AF_XDP"
	root.SilenceErrors = true // execute prints them
	root.SilenceUsage = true
	root.AddCommand(newRun(), newCheck(), newList(), newConns(), newStats(), newTop(), newDrain(), newWeight(), newHealth(),
		newReload(), newImport(), newExport(), newVersion())
	root.AddCommand(newExplain(), newTrace(), newCapture(), newSimulate())
	root.AddCommand(newDoctor())
	root.AddCommand(newPlan(), newApply(), newConfirm(), newRollback(), newStatus(), newOverrides(), newDisable(), newEnable())
	root.AddCommand(newManual())
	completeWords(root)
	return root
}

// parent is a command that does nothing without one of its own. Without it, cobra's words for a
// wrong one would not say which there are, and none at all would be taken for a wish for help.
// unknown has a place for the wrong one.
func parent(unknown, missing string) *cobra.Command {
	return &cobra.Command{
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf(unknown+": there is %s", args[0], verbs(cmd))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{fmt.Errorf("%s: %s", missing, verbs(cmd))}
		},
	}
}

// verbs lists the commands that there are, for error messages.
func verbs(root *cobra.Command) string {
	var names []string
	for _, cmd := range root.Commands() {
		if cmd.IsAvailableCommand() {
			names = append(names, cmd.Name())
		}
	}
	return strings.Join(names, ", ")
}

// arguments checks that there are as many arguments as names, e.g. "SERVICE", "BACKEND".
func arguments(names ...string) cobra.PositionalArgs {
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

// daemonFlags are the flags of all verbs that talk to a running daemon.
type daemonFlags struct {
	socket string
	output format
}

func (f *daemonFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.socket, "socket", api.DefaultSocket, "control socket of the daemon")
	f.output.add(cmd)
}

// client is the daemon to talk to. The interface, so that no verb depends on the socket behind it.
func (f *daemonFlags) client() api.Control { return api.NewClient(f.socket) }
