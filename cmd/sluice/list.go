package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice/engine/api"
)

// forwardNames are ipvsadm's words for the modes.
var forwardNames = map[string]string{"nat": "Masq", "fullnat": "FullNat", "tun": "Tunnel", "dr": "Route"}

func newList() *cobra.Command {
	var flags daemonFlags
	var stats, rate bool
	var interval time.Duration
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show services and backends",
		Long: "List shows services and backends as ipvsadm -Ln does, with the state of each backend.\n" +
			"With --stats it shows what they carried since the start, with --rate what they carry now.",
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if stats && rate {
				return usageError{errors.New("--stats and --rate exclude each other")}
			}
			client := flags.client()
			services, err := client.List(cmd.Context())
			if err != nil {
				return err
			}
			table := func(w io.Writer) error { return listTable(w, services) }
			switch {
			case rate && flags.output == formatTable:
				before := services
				if services, err = listAfter(cmd, client, interval); err != nil {
					return err
				}
				table = func(w io.Writer) error { return rateTable(w, before, services, interval) }
			case stats:
				table = func(w io.Writer) error { return statsTable(w, services) }
			}
			return flags.output.print(cmd.OutOrStdout(), services, table)
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&stats, "stats", false, "show connections, packets and bytes since the start")
	cmd.Flags().BoolVar(&rate, "rate", false, "show them per second, measured over --interval")
	cmd.Flags().DurationVar(&interval, "interval", time.Second, "how long --rate measures")
	return cmd
}

// listAfter lists again when the interval is over.
func listAfter(cmd *cobra.Command, client api.Control, interval time.Duration) ([]api.Service, error) {
	select {
	case <-time.After(interval):
	case <-cmd.Context().Done():
	}
	return client.List(cmd.Context())
}

// listTable prints what ipvsadm -Ln prints, plus the service's name among the flags and the backend's state.
func listTable(w io.Writer, services []api.Service) error {
	out := bufio.NewWriter(w)
	width := endpointWidth(services, 28)
	title(out, services)
	fmt.Fprintln(out, "Prot LocalAddress:Port Scheduler Flags")
	fmt.Fprintf(out, "  -> %-*s Forward Weight ActiveConn InActConn  State\n", width, "RemoteAddress:Port")
	for _, s := range services {
		fmt.Fprintf(out, "%-4s %s %s", strings.ToUpper(s.Protocol), serviceEndpoint(s), s.Scheduler)
		if s.PersistenceS > 0 {
			fmt.Fprintf(out, " persistent %.0f", s.PersistenceS)
		}
		fmt.Fprintf(out, " name %s\n", s.Name)
		for _, b := range s.Backends {
			fmt.Fprintf(out, "  -> %-*s %-7s %-6d %-10d %-10d %s\n",
				width, b.Endpoint(), forwardNames[b.Mode], b.Weight, b.Active, b.Inactive, b.State)
		}
	}
	return out.Flush()
}

// traffic is what a service or a backend carried: the columns of --stats and --rate.
type traffic struct{ connections, packetsIn, packetsOut, bytesIn, bytesOut uint64 }

func (t traffic) print(w io.Writer) {
	fmt.Fprintf(w, " %10d %12d %12d %15d %15d\n", t.connections, t.packetsIn, t.packetsOut, t.bytesIn, t.bytesOut)
}

// per is the growth since before, per second. Counters that went back belong to another daemon: 0.
func (t traffic) per(before traffic, interval time.Duration) traffic {
	rate := func(now, then uint64) uint64 {
		if now < then || interval <= 0 {
			return 0
		}
		return uint64(float64(now-then) / interval.Seconds())
	}
	return traffic{
		rate(t.connections, before.connections),
		rate(t.packetsIn, before.packetsIn), rate(t.packetsOut, before.packetsOut),
		rate(t.bytesIn, before.bytesIn), rate(t.bytesOut, before.bytesOut),
	}
}

func serviceTraffic(s api.Service) traffic {
	return traffic{s.Connections, s.Packets, s.PacketsOut, s.Bytes, s.BytesOut}
}

func backendTraffic(b api.Backend) traffic {
	return traffic{b.Connections, b.Packets, b.PacketsOut, b.Bytes, b.BytesOut}
}

func statsTable(w io.Writer, services []api.Service) error {
	return trafficTable(w, services, [5]string{"Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"},
		serviceTraffic, func(_ api.Service, b api.Backend) traffic { return backendTraffic(b) })
}

func rateTable(w io.Writer, before, services []api.Service, interval time.Duration) error {
	then := make(map[string]traffic)
	for _, s := range before {
		then[s.Key()] = serviceTraffic(s)
		for _, b := range s.Backends {
			then[s.Key()+" "+b.Endpoint()] = backendTraffic(b)
		}
	}
	return trafficTable(w, services, [5]string{"CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"},
		func(s api.Service) traffic { return serviceTraffic(s).per(then[s.Key()], interval) },
		func(s api.Service, b api.Backend) traffic {
			return backendTraffic(b).per(then[s.Key()+" "+b.Endpoint()], interval)
		})
}

// trafficTable prints what ipvsadm --stats and --rate print, with numbers in full.
func trafficTable(w io.Writer, services []api.Service, columns [5]string,
	ofService func(api.Service) traffic, ofBackend func(api.Service, api.Backend) traffic) error {
	out := bufio.NewWriter(w)
	width := endpointWidth(services, 28)
	title(out, services)
	fmt.Fprintf(out, "Prot %-*s %10s %12s %12s %15s %15s\n", width, "LocalAddress:Port",
		columns[0], columns[1], columns[2], columns[3], columns[4])
	fmt.Fprintln(out, "  -> RemoteAddress:Port")
	for _, s := range services {
		fmt.Fprintf(out, "%-4s %-*s", strings.ToUpper(s.Protocol), width, serviceEndpoint(s))
		ofService(s).print(out)
		for _, b := range s.Backends {
			fmt.Fprintf(out, "  -> %-*s", width, b.Endpoint())
			ofBackend(s, b).print(out)
		}
	}
	return out.Flush()
}

func title(w io.Writer, services []api.Service) {
	backends := 0
	for _, s := range services {
		backends += len(s.Backends)
	}
	fmt.Fprintf(w, "Sluice Virtual Server version %s (services=%d backends=%d)\n", version, len(services), backends)
}

// serviceEndpoint is the key without the protocol.
func serviceEndpoint(s api.Service) string { return strings.TrimPrefix(s.Key(), s.Protocol+" ") }

// endpointWidth is the width of the address column: as wide as the widest, at least atLeast.
func endpointWidth(services []api.Service, atLeast int) int {
	width := atLeast
	for _, s := range services {
		width = max(width, len(serviceEndpoint(s)))
		for _, b := range s.Backends {
			width = max(width, len(b.Endpoint()))
		}
	}
	return width
}
