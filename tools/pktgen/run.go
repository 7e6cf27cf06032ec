package main

import (
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"

	"sluice/tools/pktgen/report"
	"sluice/tools/pktgen/trial"
)

func newRun() *cobra.Command {
	var (
		traffic  trafficFlags
		sender   senderFlags
		receiver receiverFlags
		load     loadFlags
		output   outputFlags
	)
	cmd := &cobra.Command{
		Use:     "run --tx IF --rx IF --destination ADDRESS:PORT",
		Short:   "Send out of one interface, receive on another, and compare",
		Example: "  pktgen run --tx eth0 --tx-netns client --rx eth0 --rx-netns backend --destination 198.51.100.10:80 --rate 500k",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := traffic.read()
			if err := errors.Join(err, sender.check(), receiver.check(), load.check()); err != nil {
				return err
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
			return measure(cmd, line, sender.rate, load, output, true)
		},
	}
	sender.add(cmd, "tx")
	sender.addRate(cmd)
	receiver.add(cmd, "rx")
	traffic.add(cmd.Flags())
	load.add(cmd, 10*time.Second)
	output.add(cmd)
	return cmd
}

func newSend() *cobra.Command {
	var (
		traffic trafficFlags
		sender  senderFlags
		load    loadFlags
		output  outputFlags
	)
	cmd := &cobra.Command{
		Use:   "send --interface IF --destination ADDRESS:PORT",
		Short: "Send frames",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := traffic.read()
			if err := errors.Join(err, sender.check(), load.check()); err != nil {
				return err
			}
			if err := guard(cmd, &sender.endFlags); err != nil {
				return err
			}
			line, err := trial.Open(trial.Setup{Send: sender.end, Sender: sender.backend, Queue: sender.queue, Traffic: t})
			if err != nil {
				return err
			}
			defer line.Close()
			return measure(cmd, line, sender.rate, load, output, false)
		},
	}
	sender.add(cmd, "")
	sender.addRate(cmd)
	traffic.add(cmd.Flags())
	load.add(cmd, 10*time.Second)
	output.add(cmd)
	return cmd
}

// measure makes one measurement and prints it, even if it fails in the middle.
func measure(cmd *cobra.Command, line *trial.Line, rate float64, load loadFlags, output outputFlags, receives bool) error {
	progress := output.progress(cmd, receives)
	result, err := line.Run(cmd.Context(), trial.Load{Rate: rate, Duration: load.duration, Limit: load.count, OnSample: progress.Sample})
	progress.End()
	return errors.Join(err, printResult(cmd, result, output))
}

func printResult(cmd *cobra.Command, result trial.Result, output outputFlags) error {
	return output.print(cmd, result,
		func(w io.Writer) error { return report.Text(w, result) },
		func(w io.Writer) error { return report.Plot(w, result, parameters(cmd)) })
}
