package main

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/conf"
	"sluice/engine"
	"sluice/engine/api"
	"sluice/engine/inspect"
)

func newExplain() *cobra.Command {
	var flags daemonFlags
	var offline offlineFlags
	bytes := 0
	cmd := &cobra.Command{
		Use:   "explain PROTOCOL FROM TO",
		Short: "Explain step by step what happens to a packet, and why",
		Long: "Explain shows the service that a packet belongs to, its worker and connection, or the backend that a new\n" +
			"connection would get and why, how the packet would be rewritten and where it would be sent, and any problems.\n" +
			"It asks the running daemon, or with --config uses a file only. It sends and changes nothing. The port of FROM\n" +
			"is optional for a client. A step that may be the cause of a problem is marked with `!`.",
		Example: "  sluice explain tcp 203.0.113.5:4000 198.51.100.10:80\n" +
			"  sluice explain tcp 203.0.113.5 198.51.100.10:80           any port of that client\n" +
			"  sluice explain 'tcp 10.0.0.11:8080 -> 203.0.113.5:4000'   a backend's reply\n" +
			"  sluice explain udp [2001:db8::5]:4000 [2001:db8::10]:53 --config sluice.toml",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			tuple, err := api.ParseTuple(args...)
			if err != nil {
				return cli.Usage(err)
			}
			tuple.Bytes = bytes
			e, err := offline.explain(cmd, &flags, tuple)
			if err != nil {
				return err
			}
			return flags.output.print(cmd.OutOrStdout(), e, func(w io.Writer) error { return explainTable(w, e) })
		},
	}
	flags.add(cmd)
	offline.add(cmd, "explain from this file only; no daemon is asked")
	cmd.Flags().IntVar(&bytes, "bytes", 0, "length of the IP packet (0: the minimum)")
	return cmd
}

// explain asks the daemon, or with --config the file.
func (f *offlineFlags) explain(cmd *cobra.Command, daemon *daemonFlags, tuple api.Tuple) (api.Explanation, error) {
	if f.config == "" {
		return daemon.client().Explain(cmd.Context(), tuple)
	}
	box, err := f.box(cmd.ErrOrStderr())
	if err != nil {
		return api.Explanation{}, err
	}
	return box.Explain(tuple)
}

// explainTable prints one line per step, and the verdict last.
func explainTable(w io.Writer, e api.Explanation) error {
	out := bufio.NewWriter(w)
	fmt.Fprintln(out, e.Tuple)
	printSteps(out, e.Steps)
	mark := '='
	if !e.OK {
		mark = '!'
	}
	fmt.Fprintf(out, "%c %-11s %s\n", mark, "verdict", e.Verdict)
	return out.Flush()
}

// printSteps prints one line per step; problems begin with an exclamation mark.
func printSteps(w io.Writer, steps []api.Step) {
	for _, s := range steps {
		mark := ' '
		if s.Problem {
			mark = '!'
		}
		fmt.Fprintf(w, "%c %-11s %s\n", mark, s.Stage, s.Text)
	}
}

// offlineFlags are the flags of verbs that work without a daemon.
type offlineFlags struct {
	config     string
	mtu        int
	neighbours []string
}

func (f *offlineFlags) add(cmd *cobra.Command, configHelp string) {
	cmd.Flags().StringVarP(&f.config, "config", "c", "", configHelp)
	cmd.Flags().IntVar(&f.mtu, "mtu", 1500, "with --config: MTU of all ports")
	cmd.Flags().StringSliceVar(&f.neighbours, "neighbours", nil, "with --config: addresses of the reachable backends (default all)")
}

// box is the balancer that the file describes, in invented surroundings.
func (f *offlineFlags) box(stderr io.Writer) (*inspect.Offline, error) {
	if f.mtu < 68 || f.mtu > 3500 {
		return nil, cli.Usage(fmt.Errorf("--mtu %d: must be 68 to 3500", f.mtu))
	}
	cfg, warnings, err := conf.Load(f.config, nil)
	for _, warning := range warnings {
		fmt.Fprintln(stderr, "sluice: warning:", warning.Error())
	}
	if err != nil {
		return nil, err
	}
	o := engine.OfflineOptions{MTU: f.mtu}
	for _, text := range f.neighbours {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, cli.Usage(fmt.Errorf("--neighbours: %q is not an address", text))
		}
		o.Neighbours = append(o.Neighbours, a)
	}
	return engine.NewOffline(cfg, o)
}
