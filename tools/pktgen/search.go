package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/tools/pktgen/report"
	"sluice/tools/pktgen/search"
	"sluice/tools/pktgen/trial"
)

func newSearch() *cobra.Command {
	var (
		traffic  trafficFlags
		sender   senderFlags
		receiver receiverFlags
		output   outputFlags
		config   search.Config
		duration time.Duration
	)
	cmd := &cobra.Command{
		Use:     "search --tx IF --rx IF --destination ADDRESS:PORT",
		Short:   "Find the highest rate without loss (RFC 2544, section 26.1)",
		Example: "  pktgen search --tx eth0 --tx-netns client --rx eth0 --rx-netns backend --destination 198.51.100.10:80 --plot search.svg",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := traffic.read()
			if err := errors.Join(err, sender.check(), receiver.check()); err != nil {
				return err
			}
			if err := config.Check(); err != nil {
				return cli.Usage(err)
			}
			if duration <= 0 {
				return cli.Usage(errors.New("--duration must be more than 0"))
			}
			if err := guard(cmd, &sender.endFlags, &receiver.endFlags); err != nil {
				return err
			}
			line, err := trial.Open(trial.Setup{
				Send: sender.end, Sender: sender.backend, Queue: sender.queue,
				Receive: &receiver.end, Receiver: receiver.backend,
				Traffic: t, Follow: receiver.follow, Latency: receiver.latency,
			})
			if err != nil {
				return err
			}
			defer line.Close()
			progress := output.progress(cmd, true)
			config.OnTrial = progress.Trial
			result, err := search.Find(cmd.Context(), config, func(ctx context.Context, rate float64) (search.Outcome, error) {
				r, err := line.Run(ctx, trial.Load{Rate: rate, Duration: duration, OnSample: progress.Sample})
				return outcome(r), err
			})
			progress.End()
			return errors.Join(err, output.print(cmd, result,
				func(w io.Writer) error { return report.SearchText(w, result) },
				func(w io.Writer) error { return report.SearchPlot(w, result, parameters(cmd)) }))
		},
	}
	sender.add(cmd, "tx")
	receiver.add(cmd, "rx")
	traffic.add(cmd.Flags())
	output.add(cmd)
	flags := cmd.Flags()
	flags.DurationVar(&duration, "duration", 5*time.Second, "of each trial; RFC 2544 wants 60s")
	flags.Var(newValue(&config.HighestPPS, "max", "PPS", parseRate), "highest", "rate to begin with, or max")
	flags.Var(newValue(&config.LowestPPS, "1000", "PPS", parseRate), "lowest", "give up below this rate")
	flags.Float64Var(&config.Resolution, "resolution", 0.01, "how near the rates with and without loss shall come, as a share")
	flags.Float64Var(&config.Allowed, "allowed-loss", 0, "share of lost frames that is still no loss")
	flags.IntVar(&config.Attempts, "attempts", 1, "a rate has failed when so many trials in a row have")
	config.LowestPPS = 1000
	return cmd
}

// outcome returns what a search needs of a measurement.
func outcome(r trial.Result) search.Outcome {
	o := search.Outcome{SentPPS: r.SentPPS, Sent: r.Sent, Received: r.Received, Lost: r.Lost, LossRatio: r.LossRatio}
	if r.Latency != nil {
		o.P50NS, o.P99NS = r.Latency.P50NS, r.Latency.P99NS
	}
	return o
}
