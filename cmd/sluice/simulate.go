package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/engine/api"
	"sluice/engine/inspect"
	"sluice/engine/pcap"
)

func newSimulate() *cobra.Command {
	var offline offlineFlags
	var output format
	var path string
	var trace bool
	cmd := &cobra.Command{
		Use:   "simulate --config FILE IN.pcap [-w OUT.pcapng]",
		Short: "Run recorded packets through a configuration's pipeline, offline",
		Long: "Simulate runs the packets of a pcap or pcapng file through the pipeline of run, at the times in the file. Next\n" +
			"hops are invented: every backend answers ARP, or only those in --neighbours. It needs no root and no interface,\n" +
			"and prints what happened to the packets. -w writes them as received and as sent, like capture. Of a file that\n" +
			"capture has written it takes the packets as received only.",
		Example: "  sluice simulate --config sluice.toml in.pcap -w out.pcapng\n" +
			"  sluice simulate --config sluice.toml --trace --mtu 1400 in.pcap",
		Args: cli.Arguments("IN.pcap"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if offline.config == "" {
				return cli.Usage(errors.New("missing --config FILE"))
			}
			box, err := offline.box(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if n := box.Config.Engine.Connections; n > inspect.MaxOfflineConnections {
				fmt.Fprintf(cmd.ErrOrStderr(), "sluice: the simulation has space for %d connections, not for %d\n", inspect.MaxOfflineConnections, n)
			}
			in, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer in.Close()
			shows := []func(api.TraceEvent) error{}
			if trace {
				shows = append(shows, func(e api.TraceEvent) error {
					traceText(cmd.OutOrStdout(), e)
					return nil
				})
			}
			if path != "" {
				var file *os.File
				if file, err = os.Create(path); err != nil {
					return err
				}
				w := &pcapWriter{out: bufio.NewWriter(file), most: 1 << 62}
				shows = append(shows, w.write)
				defer func() { err = errors.Join(err, w.close(), file.Close()) }()
			}
			sum := simulation{Drops: map[string]int{}, Backends: map[string]int{}}
			failed := replay(in, func(p pcap.Packet) error { return sum.receive(box, p, shows) })
			return errors.Join(output.print(cmd.OutOrStdout(), sum, sum.table), failed)
		},
	}
	output.add(cmd)
	offline.add(cmd, "configuration file")
	cmd.Flags().StringVarP(&path, "write", "w", "", "pcapng file to write")
	cmd.Flags().BoolVar(&trace, "trace", false, "show each packet like trace")
	return cmd
}

// simulation is the result for all packets.
type simulation struct {
	Packets   int            `json:"packets"`
	Forwarded int            `json:"forwarded"`
	Replied   int            `json:"replied"`
	Passed    int            `json:"passed"` // passed to the kernel
	Drops     map[string]int `json:"drops"`
	Backends  map[string]int `json:"backends"` // packets to and from each
	Cut       int            `json:"cut"`      // truncated when recorded
	Copies    int            `json:"copies"`   // left out: capture wrote them as sent

	began time.Time
}

// receive processes a packet, unless it is one that Sluice sent, and shows what happened.
func (s *simulation) receive(box *inspect.Offline, p pcap.Packet, shows []func(api.TraceEvent) error) error {
	if sentBySluice(p.Interface) {
		s.Copies++
		return nil
	}
	if s.Packets == 0 {
		s.began = p.At
	}
	e := box.Process(p.Frame, p.At.Sub(s.began))
	e.Time = p.At
	s.add(&e, len(p.Frame) < p.Length)
	for _, show := range shows {
		if err := show(e); err != nil {
			return err
		}
	}
	return nil
}

func (s *simulation) add(e *api.TraceEvent, cut bool) {
	s.Packets++
	if cut {
		s.Cut++
	}
	switch e.Verdict {
	case "forward":
		s.Forwarded++
		s.Backends[e.Service+" "+e.Backend]++
	case "reply":
		s.Replied++
	case "pass":
		s.Passed++
	default:
		s.Drops[e.Reason]++
	}
}

func (s simulation) table(w io.Writer) error {
	dropped := 0
	for _, n := range s.Drops {
		dropped += n
	}
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "packets %d = forwarded %d + replied %d + dropped %d + passed to the kernel %d\n",
		s.Packets, s.Forwarded, s.Replied, dropped, s.Passed)
	for _, r := range api.DropReasons() {
		if n := s.Drops[r.Name]; n > 0 {
			fmt.Fprintf(out, "  dropped   %8d  %-16s %s\n", n, r.Name, r.Text)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Backends)) {
		fmt.Fprintf(out, "  forwarded %8d  %s\n", s.Backends[name], name)
	}
	if s.Cut > 0 {
		fmt.Fprintf(out, "  %d packets are truncated: record with tcpdump -s 0\n", s.Cut)
	}
	if s.Copies > 0 {
		fmt.Fprintf(out, "  %d packets are left out: sluice capture recorded them as sent\n", s.Copies)
	}
	return out.Flush()
}

// replay calls each for the packets of a pcap or pcapng file, in order.
func replay(file io.Reader, each func(pcap.Packet) error) error {
	in, err := pcap.NewReader(file)
	if err != nil {
		return err
	}
	for {
		p, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := each(p); err != nil {
			return err
		}
	}
}
