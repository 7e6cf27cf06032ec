package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/cmd/sluice/text"
	"sluice/engine/api"
)

// forwardNames are ipvsadm's names of the modes.
var forwardNames = map[string]string{"nat": "Masq", "fullnat": "FullNat", "tun": "Tunnel", "dr": "Route"}

// listFlags are the flags of list, in addition to those of all verbs.
type listFlags struct {
	daemonFlags
	stats, rate, conns, wide bool
	interval                 time.Duration
}

func newList() *cobra.Command {
	var flags listFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show services and backends",
		Long: "List shows services and backends like ipvsadm -Ln, with the state of each backend, and how many of a service's\n" +
			"backends are in the worst one. For backends that are not up it adds since when and why. --stats shows connections, packets and bytes since the start, --rate\n" +
			"shows them per second, -c shows connections (sluice conns has filters). Addresses and ports are always numbers.",
		Example: "  sluice list\n  sluice list --rate --interval 5s\n  sluice list -c -n",
		Args:    cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := flags.check(cmd); err != nil {
				return err
			}
			return flags.list(cmd)
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&flags.stats, "stats", false, "show connections, packets and bytes since the start")
	cmd.Flags().BoolVar(&flags.rate, "rate", false, "show connections, packets and bytes per second, measured over --interval")
	cmd.Flags().DurationVar(&flags.interval, "interval", time.Second, "how long --rate measures")
	cmd.Flags().BoolVarP(&flags.conns, "connection", "c", false, "show connections instead of services")
	cmd.Flags().BoolVar(&flags.wide, "wide", false, "show time and reason for every backend, and weights that differ from the file")
	// For users of ipvsadm: these are always on.
	cmd.Flags().BoolP("numeric", "n", true, "print numbers, not names (always on)")
	cmd.Flags().Bool("exact", true, "print numbers in full (always on)")
	return cmd
}

// check returns an error for flags that exclude each other.
func (f *listFlags) check(cmd *cobra.Command) error {
	var views []string
	for _, view := range []string{"stats", "rate", "connection", "wide"} {
		if on, _ := cmd.Flags().GetBool(view); on {
			views = append(views, "--"+view)
		}
	}
	if len(views) > 1 {
		return cli.Usage(fmt.Errorf("%s exclude each other: use one", strings.Join(views, " and ")))
	}
	if cmd.Flags().Changed("interval") && !f.rate {
		return cli.Usage(errors.New("--interval needs --rate"))
	}
	if f.interval <= 0 {
		return cli.Usage(fmt.Errorf("--interval %v: must be more than 0, e.g. 1s", f.interval))
	}
	return nil
}

func (f *listFlags) list(cmd *cobra.Command) error {
	client, out := f.client(), cmd.OutOrStdout()
	if f.conns {
		return printConns(cmd, f.daemonFlags, api.ConnQuery{})
	}
	began := time.Now()
	services, err := client.List(cmd.Context())
	if err != nil {
		return err
	}
	switch {
	case f.rate:
		now, elapsed, err := listAfter(cmd, client, began.Add(f.interval), began)
		if err != nil {
			return err
		}
		rates := api.RatesOf(services, now, elapsed)
		return f.output.print(out, withRates(now, rates), func(w io.Writer) error { return rateTable(w, now, rates) })
	case f.stats:
		return f.output.print(out, services, func(w io.Writer) error { return statsTable(w, services) })
	}
	return f.output.print(out, services, func(w io.Writer) error { return listTable(w, services, f.wide) })
}

// listAfter lists again when interval has passed since began. It returns the actual time since
// began.
func listAfter(cmd *cobra.Command, client api.Control, when, began time.Time) ([]api.Service, time.Duration, error) {
	select {
	case <-time.After(time.Until(when)):
	case <-cmd.Context().Done():
	}
	elapsed := time.Since(began)
	services, err := client.List(cmd.Context())
	return services, elapsed, err
}

// listTable prints services like ipvsadm -Ln, plus their names and the states of backends.
func listTable(w io.Writer, services []api.Service, wide bool) error {
	out := bufio.NewWriter(w)
	width := endpointWidth(services, 28)
	title(out, services)
	fmt.Fprintln(out, "Prot LocalAddress:Port Scheduler Flags")
	states := stateWidth(services)
	fmt.Fprintf(out, "  -> %-*s Forward Weight ActiveConn InActConn  %-*s %-8s %s\n", width, "RemoteAddress:Port", states, "State", "Since", "Why")
	for _, s := range services {
		fmt.Fprintf(out, "%-4s %s %s", strings.ToUpper(s.Protocol), serviceEndpoint(s), s.Scheduler)
		if s.PersistenceS > 0 {
			fmt.Fprintf(out, " persistent %.0f", s.PersistenceS)
		}
		fmt.Fprintf(out, " name %s %s%s\n", s.Name, fraction(s), frozenFlag(s))
		for i, b := range serversOf(s) {
			fmt.Fprintf(out, "  -> %-*s %-7s %-6d %-10d %-10d %s%s\n",
				width, b.Endpoint(), forwardNames[b.Mode], b.Weight, b.Active, b.Inactive, condition(b, states, wide), sorryMark(i, s.Backends))
		}
		alarmLines(out, s.Alarms)
	}
	return out.Flush()
}

// stateWidth returns the width of the column of states.
func stateWidth(services []api.Service) int {
	width := len("State")
	for _, s := range services {
		for _, b := range serversOf(s) {
			width = max(width, len(api.StateName(b)))
		}
	}
	return width
}

// condition returns state, time and reason of a backend in columns, the first one of stateWidth.
// Time and reason are only of those that are not up, unless wide.
func condition(b api.Backend, stateWidth int, wide bool) string {
	if b.State == api.StateUp && !wide {
		return api.StateName(b)
	}
	why := text.OneLine(api.Why(b))
	if wide && b.Weight != b.ConfiguredWeight {
		why = strings.TrimSuffix(fmt.Sprintf("weight %d in the file; %s", b.ConfiguredWeight, why), "; ")
	}
	return strings.TrimRight(fmt.Sprintf("%-*s %-8s %s", stateWidth, api.StateName(b), text.Ago(b.StateSinceS), why), " ")
}

// traffic is the traffic of a service or a backend: the columns of --stats and --rate.
type traffic struct{ connections, packetsIn, packetsOut, bytesIn, bytesOut uint64 }

func (t traffic) print(w io.Writer) {
	fmt.Fprintf(w, " %10d %12d %12d %15d %15d\n", t.connections, t.packetsIn, t.packetsOut, t.bytesIn, t.bytesOut)
}

func statsTable(w io.Writer, services []api.Service) error {
	return trafficTable(w, services, [5]string{"Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"},
		func(s api.Service) traffic {
			return traffic{s.Connections, s.Packets, s.PacketsOut, s.Bytes, s.BytesOut}
		},
		func(_ api.Service, b api.Backend) traffic {
			return traffic{b.Connections, b.Packets, b.PacketsOut, b.Bytes, b.BytesOut}
		})
}

func rateTable(w io.Writer, services []api.Service, rates map[api.Rated]api.Rate) error {
	of := func(service, backend string) traffic {
		r := rates[api.Rated{Service: service, Backend: backend}]
		whole := func(f float64) uint64 { return uint64(math.Round(f)) }
		return traffic{whole(r.CPS), whole(r.InPPS), whole(r.OutPPS), whole(r.InBPS), whole(r.OutBPS)}
	}
	return trafficTable(w, services, [5]string{"CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"},
		func(s api.Service) traffic { return of(s.Key(), "") },
		func(s api.Service, b api.Backend) traffic { return of(s.Key(), b.Endpoint()) })
}

// ratedService is a service in list --rate -o json: that of list, with rates.
type ratedService struct {
	api.Service
	Rate     api.Rate       `json:"rate"`
	Backends []ratedBackend `json:"backends"` // instead of Service's
}

type ratedBackend struct {
	api.Backend
	Rate api.Rate `json:"rate"`
}

func withRates(services []api.Service, rates map[api.Rated]api.Rate) []ratedService {
	all := make([]ratedService, 0, len(services))
	for _, s := range services {
		rated := ratedService{s, rates[api.Rated{Service: s.Key()}], make([]ratedBackend, 0, len(s.Backends))}
		for _, b := range s.Backends {
			rated.Backends = append(rated.Backends, ratedBackend{b, rates[api.Rated{Service: s.Key(), Backend: b.Endpoint()}]})
		}
		all = append(all, rated)
	}
	return all
}

// trafficTable prints traffic like ipvsadm --stats and --rate, with numbers in full.
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

// serviceEndpoint returns the key without the protocol.
func serviceEndpoint(s api.Service) string { return strings.TrimPrefix(s.Key(), s.Protocol+" ") }

// endpointWidth returns the width of the address column: the widest endpoint, at least atLeast.
func endpointWidth(services []api.Service, atLeast int) int {
	width := atLeast
	for _, s := range services {
		width = max(width, len(serviceEndpoint(s)))
		for _, b := range serversOf(s) {
			width = max(width, len(b.Endpoint()))
		}
	}
	return width
}
