package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/engine/api"
)

func newConns() *cobra.Command {
	var flags daemonFlags
	var query api.ConnQuery
	cmd := &cobra.Command{
		Use:   "conns",
		Short: "Show live connections",
		Long:  "Conns shows the connection table like ipvsadm -Lcn. Filters can be combined.",
		Args:  cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if query.Limit < 0 {
				return cli.Usage(fmt.Errorf("--limit %d is less than 0", query.Limit))
			}
			query.State = strings.ToUpper(query.State)
			return printConns(cmd, flags, query)
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolP("numeric", "n", true, "print numbers, not names (always on)")
	cmd.Flags().StringVar(&query.Service, "service", "", `only this service: its name, or "tcp 198.51.100.10:80"`)
	cmd.Flags().StringVar(&query.Client, "client", "", "only this client: address, or address:port")
	cmd.Flags().StringVar(&query.Backend, "backend", "", "only this backend: address, or address:port")
	cmd.Flags().StringVar(&query.State, "state", "", "only in this state, such as SYN_RECV")
	cmd.Flags().IntVar(&query.Limit, "limit", 0, "show at most this many (0: all)")
	return cmd
}

// printConns implements conns and list -c.
func printConns(cmd *cobra.Command, flags daemonFlags, query api.ConnQuery) error {
	conns, err := flags.client().Conns(cmd.Context(), query)
	if err != nil {
		return err
	}
	return flags.output.print(cmd.OutOrStdout(), conns, func(w io.Writer) error { return connTable(w, conns) })
}

// connTable prints connections like ipvsadm -Lcn.
func connTable(w io.Writer, conns []api.Conn) error {
	state, source, virtual := len("ESTABLISHED"), 18, 18
	for _, c := range conns {
		state, source, virtual = max(state, len(c.State)), max(source, len(c.Client)), max(virtual, len(c.Virtual))
	}
	out := bufio.NewWriter(w)
	fmt.Fprintln(out, "Sluice connection entries")
	row := func(protocol, expire, stateName, client, vip, destination string) {
		fmt.Fprintf(out, "%-3s %-6s %-*s %-*s %-*s %s\n",
			protocol, expire, state, stateName, source, client, virtual, vip, destination)
	}
	row("pro", "expire", "state", "source", "virtual", "destination")
	for _, c := range conns {
		row(strings.ToUpper(c.Protocol), minutes(c.ExpiresS), c.State, c.Client, c.Virtual, c.Backend)
	}
	return out.Flush()
}

// minutes formats seconds like ipvsadm: 14:58.
func minutes(seconds float64) string {
	whole := int(max(seconds, 0))
	return fmt.Sprintf("%02d:%02d", whole/60, whole%60)
}
