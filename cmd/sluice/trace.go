package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/engine/api"
)

func newTrace() *cobra.Command {
	var flags daemonFlags
	var q api.TraceQuery
	cmd := &cobra.Command{
		Use:   "trace [FILTER]",
		Short: "Show live packets with each stage's decision, drops included",
		Long: "Trace shows packets as they pass: what they are, whose they are, which connection they belong to, what they\n" +
			"become and where they go, or why they don't. FILTER is tcpdump's, of the packet as it comes or as it leaves.\n" +
			"It ends after --count packets, after --duration, or with ^C. While it runs, packets cost a little more time;\n" +
			"those that come faster than they can be shown are counted.",
		Example: "  sluice trace --count 10\n" +
			"  sluice trace host 203.0.113.5 and tcp port 80\n" +
			"  sluice trace 'tcp[tcpflags] & tcp-rst != 0' -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			q.Filter = strings.Join(args, " ")
			if _, err := q.Checked(); err != nil {
				return cli.Usage(err)
			}
			out := bufio.NewWriter(cmd.OutOrStdout())
			defer out.Flush()
			q.Started = func() { fmt.Fprintln(cmd.ErrOrStderr(), "sluice: tracing; ^C ends it") }
			show := func(e api.TraceEvent) error {
				traceText(out, e)
				return out.Flush()
			}
			if flags.output == formatJSON {
				encoder := json.NewEncoder(cmd.OutOrStdout())
				show = func(e api.TraceEvent) error { return encoder.Encode(e) }
			}
			end, err := watch(cmd.Context(), flags.client(), q, show)
			return errors.Join(err, tellEnd(cmd.ErrOrStderr(), end, err))
		},
	}
	flags.add(cmd)
	traceFlags(cmd, &q)
	return cmd
}

// traceFlags are those of trace and capture.
func traceFlags(cmd *cobra.Command, q *api.TraceQuery) {
	cmd.Flags().IntVar(&q.Count, "count", 0, "end after so many packets (0: not by number)")
	cmd.Flags().DurationVar(&q.Duration, "duration", api.DefaultTraceTime, "end after so long, at most "+api.MaxTraceTime.String())
}

// watch follows a trace until it ends, or the user ends it, which is no error.
func watch(ctx context.Context, control api.Control, q api.TraceQuery, show func(api.TraceEvent) error) (end api.TraceEnd, err error) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	seen, lost := 0, uint64(0)
	end, err = control.Trace(ctx, q, func(e api.TraceEvent) error {
		if e.Verdict != "hand-over" {
			seen++
		}
		lost = e.Lost
		return show(e)
	})
	if ctx.Err() != nil || errors.Is(err, errEnough) {
		return api.TraceEnd{Seen: seen, Lost: lost, Why: "ended"}, nil
	}
	return end, err
}

// errEnough ends a trace from within.
var errEnough = errors.New("enough")

// tellEnd says on stderr how it ended.
func tellEnd(w io.Writer, end api.TraceEnd, failed error) error {
	if failed != nil {
		return nil
	}
	text := fmt.Sprintf("sluice: %s: %d packets", end.Why, end.Seen)
	if end.Lost > 0 {
		text += fmt.Sprintf(", and %d more that came faster than they could be shown: narrow the filter", end.Lost)
	}
	_, err := fmt.Fprintln(w, text)
	return err
}

// traceText shows one packet.
func traceText(w io.Writer, e api.TraceEvent) {
	fmt.Fprintf(w, "%s %s in, worker %d: %s\n", e.Time.Local().Format(time.StampMicro[len("Jan _2 "):]), e.Port, e.Worker, e.Packet)
	printSteps(w, e.Steps)
	mark := '='
	if e.Verdict == "drop" {
		mark = '!'
	}
	fmt.Fprintf(w, "%c %-11s %s\n", mark, "verdict", e.Text)
}
