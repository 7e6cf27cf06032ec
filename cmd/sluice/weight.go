package main

import (
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/engine/api"
)

func newWeight() *cobra.Command {
	var flags daemonFlags
	cmd := &cobra.Command{
		Use:   "weight SERVICE BACKEND N",
		Short: "Give a backend another weight until the file changes its weight",
		Long: "Weight gives a backend another weight, and ends a drain or disable. It survives reloads and restarts, until the\n" +
			"file has a new weight for the backend. The schedulers rr, lc and dh treat all weights above 0 as equal; a note\n" +
			"reminds you if that matters.\n" + namingHelp,
		Example: "  sluice weight web 10.0.0.11:8080 3",
		Args:    cli.Arguments("SERVICE", "BACKEND", "N"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[2])
			if err != nil || n < 0 || n > api.MaxWeight {
				return cli.Usage(fmt.Errorf("weight %q: must be a number from 0 to %d", args[2], api.MaxWeight))
			}
			return setWeight(cmd, flags, args[0], args[1], n)
		},
	}
	flags.add(cmd)
	return cmd
}

const namingHelp = `
SERVICE is the name in the file, or protocol and address: "tcp 198.51.100.10:80".
BACKEND is address:port, or the address alone where the service has it once.`

func setWeight(cmd *cobra.Command, flags daemonFlags, service, backend string, weight int) error {
	b, err := flags.client().SetWeight(cmd.Context(), service, backend, weight)
	if err != nil {
		return err
	}
	return flags.output.print(cmd.OutOrStdout(), b, func(w io.Writer) error {
		if b.Note != "" {
			fmt.Fprintln(cmd.ErrOrStderr(), "sluice: note:", b.Note)
		}
		return printBackend(w, service, b)
	})
}

func printBackend(w io.Writer, service string, b api.Backend) error {
	_, err := fmt.Fprintf(w, "%s %s: weight %d (file: %d), state %s, %d active and %d inactive connections\n",
		service, b.Endpoint(), b.Weight, b.ConfiguredWeight, api.StateName(b), b.Active, b.Inactive)
	return err
}
