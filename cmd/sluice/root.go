package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/engine/api"
)

// DefaultConfig is the default configuration file of run, check and doctor.
const DefaultConfig = "/etc/sluice/sluice.toml"

// execute runs one command line and returns the exit code.
func execute(args []string, stdout, stderr io.Writer) int {
	return cli.Execute(context.Background(), newRoot(), args, stdout, stderr)
}

func newRoot() *cobra.Command {
	root := cli.Parent("unknown command %q", "missing command")
	root.Use = "sluice"
	root.Short = "Layer-4 load balancer on AF_XDP"
	root.Long = "Sluice is a layer-4 load balancer for TCP and UDP over IPv4 and IPv6. Run is the daemon. Other commands ask it or\n" +
		"change what it does, through its control socket; check, import, simulate and doctor also work without it."
	root.AddCommand(newRun(), newKeep(), newCheck(), newList(), newConns(), newStats(), newTop(), newDrain(), newWeight(), newHealth(),
		newReload(), newImport(), newExport(), newVersion())
	root.AddCommand(newAccess())
	root.AddCommand(newExplain(), newTrace(), newCapture(), newSimulate())
	root.AddCommand(newDoctor(), newRelease(), newUpgrade())
	root.AddCommand(newPlan(), newApply(), newConfirm(), newRollback(), newStatus(), newOverrides(), newDisable(), newEnable())
	root.AddCommand(newManual())
	completeWords(root)
	return root
}

// daemonFlags are the flags of all verbs that talk to a running daemon. A verb prints what the
// daemon answers; it fails after that if an answer was without some workers.
type daemonFlags struct {
	socket       string
	output       format
	unresponsive **api.Unresponsive // of an answer; shared by copies
}

func (f *daemonFlags) add(cmd *cobra.Command) {
	f.unresponsive = new(*api.Unresponsive)
	cmd.PostRunE = func(*cobra.Command, []string) error {
		if u := *f.unresponsive; u != nil {
			return u
		}
		return nil
	}
	cmd.Flags().StringVar(&f.socket, "socket", api.DefaultSocket, "control socket of the daemon")
	f.output.add(cmd)
}

// client returns a client of the daemon.
func (f *daemonFlags) client() *api.Client {
	client, last := api.NewClient(f.socket), f.unresponsive
	client.OnUnresponsive = func(u *api.Unresponsive) { *last = u }
	return client
}
