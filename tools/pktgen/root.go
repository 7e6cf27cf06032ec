package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// Exit codes of every verb.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// usageError is a command line that can't be understood, as opposed to a thing that could not be
// done.
type usageError struct{ error }

// execute runs one command line and gives the exit code. The first SIGINT or SIGTERM ends it early,
// with the results so far; the second kills it.
func execute(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		stop()
	}()
	understood := false
	root := newRoot()
	root.PersistentPreRun = func(*cobra.Command, []string) { understood = true }
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			fmt.Fprintf(stderr, "pktgen: %s\n", line)
		}
	}
	if !understood || errors.As(err, new(usageError)) {
		fmt.Fprintf(stderr, "pktgen: see %s --help\n", cmd.CommandPath())
		return exitUsage
	}
	return exitFailed
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "pktgen",
		Short:         "Packet generator and receiver on XDP and AF_XDP",
		SilenceErrors: true, // execute prints them
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q: there is %s", args[0], verbs(cmd))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{fmt.Errorf("say what to do: %s", verbs(cmd))}
		},
	}
	root.AddCommand(newSend(), newReceive(), newRun(), newSearch(), newReplay())
	return root
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
