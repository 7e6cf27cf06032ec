package main

import (
	"context"
	"io"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"sluice/cmd/cli"
)

// execute runs one command line and returns the exit code. The first SIGINT or SIGTERM ends it
// early, with the results so far; the second kills it.
func execute(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		stop()
	}()
	return cli.Execute(ctx, newRoot(), args, stdout, stderr)
}

func newRoot() *cobra.Command {
	root := cli.Parent("unknown command %q", "missing command")
	root.Use = "pktgen"
	root.Short = "Packet generator and receiver on XDP and AF_XDP"
	root.Long = "Pktgen sends packets, receives them, and reports how many arrived, how fast, how many were lost, duplicated or\n" +
		"reordered, and their latency. Run and search have both ends on one machine, also in network namespaces. Send and\n" +
		"receive are for two machines. It needs root and Linux 5.18 or later."
	root.AddCommand(newSend(), newReceive(), newRun(), newSearch(), newReplay(), newManual())
	return root
}
