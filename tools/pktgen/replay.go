package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/tools/pktgen/capture"
	"sluice/tools/pktgen/frame"
	"sluice/tools/pktgen/port"
	"sluice/tools/pktgen/trial"
	"sluice/tools/pktgen/tx"
)

// replayFlags select how to send a capture.
type replayFlags struct {
	senderFlags
	loadFlags
	outputFlags
	source, destination frame.MAC
	loops               int
	speed               float64
}

func newReplay() *cobra.Command {
	var f replayFlags
	cmd := &cobra.Command{
		Use:   "replay --interface IF FILE",
		Short: "Send what a pcap or pcapng file holds",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			if err := guard(cmd, &f.endFlags); err != nil {
				return err
			}
			file, err := capture.Read(args[0])
			if err != nil {
				return err
			}
			if file.Truncated > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "pktgen: %d of the %d packets were captured in part and are sent so\n", file.Truncated, file.Frames())
			}
			file.SetMACs(f.source, f.destination)
			return f.send(cmd, capture.NewReplay(file, f.loops))
		},
	}
	f.senderFlags.add(cmd, "")
	f.loadFlags.add(cmd, 0)
	f.outputFlags.add(cmd)
	flags := cmd.Flags()
	const recorded = "recorded"
	f.rate = -1
	flags.Var(newValue(&f.rate, recorded, "PPS", func(text string) (float64, error) {
		if text == recorded {
			return -1, nil
		}
		return parseRate(text)
	}), "rate", "frames per second, as 250000, 250k, 1.5M, max, or recorded: with the distances of the file")
	flags.Float64Var(&f.speed, "speed", 1, "of rate recorded: so many times as fast")
	flags.IntVar(&f.loops, "loops", 1, "send the file so many times; 0: until Ctrl-C")
	flags.Var(newValue(&f.source, "", "MAC", port.ParseMAC), "smac", "source MAC address instead of the file's")
	flags.Var(newValue(&f.destination, "", "MAC", port.ParseMAC), "dmac", "destination MAC address instead of the file's")
	return cmd
}

func (f *replayFlags) check() error {
	if f.loops < 0 {
		return cli.Usage(fmt.Errorf("--loops %d is negative", f.loops))
	}
	if !(f.speed > 0) {
		return cli.Usage(fmt.Errorf("--speed %v: possible is more than 0", f.speed))
	}
	return errors.Join(f.endFlags.check(), f.loadFlags.check())
}

func (f *replayFlags) send(cmd *cobra.Command, replay *capture.Replay) error {
	p, err := port.Open(f.end.Affinity, f.end.Interface)
	if err != nil {
		return err
	}
	defer p.Close()
	var pace tx.Pacer = tx.NewRecorded(replay.OffsetNS, f.speed)
	rate := max(f.rate, 0)
	if f.rate >= 0 {
		pace = tx.NewPace(rate)
	}
	sender, err := tx.NewReplay(replay, pace, tx.Options{Port: p, Queue: f.queue, Backend: f.backend, Rate: rate, Limit: f.count})
	if err != nil {
		return err
	}
	defer sender.Close()
	ctx := cmd.Context()
	if f.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.duration)
		defer cancel()
	}
	progress := f.progress(cmd, false)
	m := trial.Measurement{Sender: sender, Port: p, OnSample: progress.Sample}
	result, err := m.Run(ctx)
	progress.End()
	return errors.Join(err, printResult(cmd, result, f.outputFlags))
}
