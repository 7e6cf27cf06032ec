package main

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/engine/api"
)

func newStats() *cobra.Command {
	var flags daemonFlags
	var all bool
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Show what happened to all packets, and the load of the machine",
		Args:  cli.Arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			stats, err := flags.client().Stats(cmd.Context())
			if err != nil {
				return err
			}
			return flags.output.print(cmd.OutOrStdout(), stats, func(w io.Writer) error { return statsReport(w, stats, all) })
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "also show drop reasons with no packets")
	return cmd
}

func statsReport(w io.Writer, s api.Stats, all bool) error {
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "sluice %s, up %s\n\n", s.Version, time.Duration(s.UptimeS*float64(time.Second)).Round(time.Second))
	fmt.Fprintf(out, "packets      rx %d = forwarded %d + replied %d + to the kernel %d + dropped %d", s.Rx, s.Forwarded, s.Replied, s.ToKernel, s.Dropped())
	if s.Waiting > 0 {
		fmt.Fprintf(out, " + waiting %d", s.Waiting)
	}
	if s.LostInCrash > 0 {
		fmt.Fprintf(out, " + lost in crash %d", s.LostInCrash)
	}
	if rest := int64(s.Rx - s.Accounted()); rest != 0 {
		fmt.Fprintf(out, " + in progress %d", rest)
	}
	for _, line := range []struct {
		n    uint64
		text string
	}{
		{s.Originated, "originated   %d, to silent ends of connections that must be reset, to ask whether a RST was genuine, and SYNs of fullnat that a backend refused, sent again"},
		{s.Untracked, "untracked    %d of those forwarded, by a hash, without a connection"},
		{s.Adopted, "adopted      %d connections that other segments than a SYN opened, at the backend that the hash names"},
		{s.Displaced, "displaced    %d connections, which had ended or one side had not taken part in, because the table filled"},
		{s.IdleReset, "idle_reset   %d connections, reset at both ends because they were idle beyond their timeout"},
		{s.ToKernelFailed, "to_kernel_failed  %d of the packets that were given to the kernel, which did not take them"},
		{s.PortReusedEarly, "port_reused_early  %d connections of mode fullnat, from a port that another had less than a minute before"},
	} {
		if line.n > 0 {
			fmt.Fprintf(out, "\n"+line.text, line.n)
		}
	}
	fmt.Fprintf(out, "\nconnections  v4 %d + v6 %d of %d\n", s.Tables.ConnectionsV4, s.Tables.ConnectionsV6, s.Tables.Capacity)
	f := s.Frames
	fmt.Fprintf(out, "frames       total %d = free %d + fill %d + rx %d + tx %d + completion %d + in flight %d\n",
		f.Total, f.Free, f.Fill, f.Rx, f.Tx, f.Completion, f.InFlight)
	dropReport(out, s.Drops, all)
	workerReport(out, s.Workers)
	portReport(out, s.Ports)
	return out.Flush()
}

// dropReport prints the drop reasons, each with its text. A newer daemon may have reasons that this
// binary does not know.
func dropReport(out io.Writer, drops map[string]uint64, all bool) {
	fmt.Fprintln(out, "\ndrops")
	printed, unknown := 0, len(drops)
	for _, reason := range api.DropReasons() {
		count, ok := drops[reason.Name]
		if ok {
			unknown--
		}
		if ok && (count > 0 || all) {
			fmt.Fprintf(out, "  %12d  %-16s %s\n", count, reason.Name, reason.Text)
			printed++
		}
	}
	if unknown > 0 {
		fmt.Fprintf(out, "  the daemon has %d reasons that this binary does not know: see -o json\n", unknown)
	}
	if printed == 0 {
		fmt.Fprintln(out, "  none")
	}
}

func workerReport(out io.Writer, workers []api.WorkerStats) {
	fmt.Fprintln(out, "\nworkers")
	table := newGrid(out, "worker", "cpu", "rx", "forwarded", "replied", "to kernel", "dropped", "handed out", "handed in",
		"conns", "free frames", "loops", "pkts/batch", "syscalls/pkt", "busy")
	for _, w := range workers {
		table.row(w.Worker, w.CPU, w.Rx, w.Forwarded, w.Replied, w.ToKernel, w.Dropped, w.HandOversOut, w.HandOversIn,
			w.Connections, w.FramesFree, w.Loops, fmt.Sprintf("%.1f", w.PacketsPerBatch),
			fmt.Sprintf("%.4f", w.SyscallsPerPacket), strconv.FormatFloat(100*w.BusyShare, 'f', 1, 64)+"%")
	}
	table.end()
	fmt.Fprintln(out, "\ntime per packet in ns, and per turn of the loop")
	table = newGrid(out, "worker", "receive", "process", "transmit", "turn p50", "p99", "p99.9", "max")
	for _, w := range workers {
		table.row(w.Worker, fmt.Sprintf("%.0f", w.StageNs.Receive), fmt.Sprintf("%.0f", w.StageNs.Process), fmt.Sprintf("%.0f", w.StageNs.Transmit),
			nanoseconds(w.GapNs.P50), nanoseconds(w.GapNs.P99), nanoseconds(w.GapNs.P999), nanoseconds(w.GapNs.Max))
	}
	table.end()
}

// nanoseconds formats a time in a suitable unit.
func nanoseconds(n uint64) string {
	d := time.Duration(n)
	for _, unit := range []time.Duration{time.Millisecond, time.Microsecond} {
		if d >= 10*unit {
			return d.Round(unit / 10).String()
		}
	}
	return d.String()
}

func portReport(out io.Writer, ports []api.PortStats) {
	for _, p := range ports {
		link := "down"
		if p.Up {
			link = "up"
		}
		fmt.Fprintf(out, "\nport %s: io %s, link %s, mtu %d\n", p.Name, p.IO, link, p.MTU)
		x := &p.XDP
		fmt.Fprintf(out, "frames: to the kernel %d, to workers %d, to the prober %d, dropped as no_socket %d, as no_worker %d\n",
			x.Passed, x.Redirected, x.Detoured, x.NoSocket, x.NoWorker)
		table := newGrid(out, "queue", "worker", "rx", "tx", "tx full", "wakeups", "kernel: rx dropped", "rx ring full",
			"fill ring empty", "rx invalid", "tx invalid", "tx ring empty")
		for _, q := range p.Queues {
			table.row(q.Queue, q.Worker, q.Rx, q.Tx, q.TxRingFull, q.Wakeups, q.KernelRxDropped, q.KernelRxRingFull,
				q.KernelFillRingEmpty, q.KernelRxInvalid, q.KernelTxInvalid, q.KernelTxRingEmpty)
		}
		table.end()
	}
}

// grid is a table of right-aligned columns with minimal width.
type grid struct{ w *tabwriter.Writer }

func newGrid(out io.Writer, columns ...any) grid {
	g := grid{tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)}
	g.row(columns...)
	return g
}

func (g grid) row(cells ...any) {
	for _, cell := range cells {
		fmt.Fprintf(g.w, "%v\t", cell)
	}
	fmt.Fprintln(g.w)
}

func (g grid) end() { g.w.Flush() }
