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
		Short: "Show live packets with the decision of each stage, drops included",
		Long: "Trace shows live packets: their headers, service and connection, how they are rewritten and where they are\n" +
			"sent, or why they are dropped. FILTER is in tcpdump's syntax and matches a packet as received or as sent.\n" +
			"It ends after --count packets, after --duration, or on ^C. While it runs, each packet costs a little more time.\n" +
			"Packets that arrive faster than they can be printed are counted.",
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
			end, err := follow(cmd.Context(), flags.client(), q, show)
			return errors.Join(err, printEnd(cmd.ErrOrStderr(), end, err))
		},
	}
	flags.add(cmd)
	traceFlags(cmd, &q)
	return cmd
}

// traceFlags adds the flags of trace and capture.
func traceFlags(cmd *cobra.Command, q *api.TraceQuery) {
	cmd.Flags().IntVar(&q.Count, "count", 0, "end after this number of packets (0: no limit)")
	cmd.Flags().DurationVar(&q.Duration, "duration", api.DefaultTraceTime, "end after this time, at most "+api.MaxTraceTime.String())
}

// follow follows a trace until it ends. If the user ends it, that is no error.
func follow(ctx context.Context, control api.Control, q api.TraceQuery, show func(api.TraceEvent) error) (end api.TraceEnd, err error) {
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

// errEnough ends a trace from its callback.
var errEnough = errors.New("enough")

// printEnd prints on stderr how a trace ended.
func printEnd(w io.Writer, end api.TraceEnd, failed error) error {
	if failed != nil {
		return nil
	}
	text := fmt.Sprintf("sluice: %s: %d packets", end.Why, end.Seen)
	if end.Lost > 0 {
		text += fmt.Sprintf(", and %d more that arrived too fast to be printed: narrow the filter", end.Lost)
	}
	_, err := fmt.Fprintln(w, text)
	if err == nil && len(end.Unresponsive) > 0 {
		err = &api.Unresponsive{Workers: end.Unresponsive}
	}
	return err
}

// traceText prints one packet.
func traceText(w io.Writer, e api.TraceEvent) {
	fmt.Fprintf(w, "%s %s in, worker %d: %s\n", e.Time.Local().Format(time.StampMicro[len("Jan _2 "):]), e.Port, e.Worker, e.Packet)
	printSteps(w, e.Steps)
	mark := '='
	if e.Verdict == "drop" {
		mark = '!'
	}
	fmt.Fprintf(w, "%c %-11s %s\n", mark, "verdict", e.Text)
}
