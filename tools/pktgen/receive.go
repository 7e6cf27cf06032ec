package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/tools/pktgen/flow"
	"sluice/tools/pktgen/port"
	"sluice/tools/pktgen/rx"
	"sluice/tools/pktgen/trial"
)

func newReceive() *cobra.Command {
	var (
		receiver receiverFlags
		load     loadFlags
		output   outputFlags
		flows    uint32
		stream   uint8
		counting = trial.CountStamped
	)
	cmd := &cobra.Command{
		Use:   "receive --interface IF",
		Short: "Receive and count until Ctrl-C",
		Long: "Receive takes every TCP and UDP frame of the interface, and counts those of `pktgen send`. It prints \"ready\"\n" +
			"on stderr when it receives.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := errors.Join(receiver.check(), load.check()); err != nil {
				return err
			}
			if flows < 1 || flows > flow.MaxFlows {
				return cli.Usage(fmt.Errorf("--flows %d: possible are 1 to %d", flows, flow.MaxFlows))
			}
			if err := guard(cmd, &receiver.endFlags); err != nil {
				return err
			}
			p, err := port.Open(receiver.end.Affinity, receiver.end.Interface)
			if err != nil {
				return err
			}
			defer p.Close()
			o := rx.Options{Port: p, Backend: receiver.backend, Latency: receiver.latency}
			if receiver.follow {
				o.Flows = flows
			}
			r, err := rx.Open(o)
			if err != nil {
				return err
			}
			defer r.Close()
			if err := r.Begin(stream); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "pktgen: receiving on %s: ready\n", p.Name)
			return receive(cmd, r, counting, load, output)
		},
	}
	receiver.add(cmd, "")
	load.add(cmd, 0)
	output.add(cmd)
	flags := cmd.Flags()
	flags.Uint32Var(&flows, "flows", 1<<16, "follow the flows with lower numbers; higher ones count as foreign")
	flags.Uint8Var(&stream, "stream", 1, "stream of the frames to count; `pktgen send` always sends 1")
	flags.Var(newValue(&counting, "stamped", "WHAT", parseCounting), "counting", "which frames count: stamped (those of pktgen), plain (TCP and UDP without a stamp), all")
	return cmd
}

func parseCounting(text string) (trial.Counting, error) {
	known := map[string]trial.Counting{"stamped": trial.CountStamped, "plain": trial.CountPlain, "all": trial.CountAll}
	if c, ok := known[text]; ok {
		return c, nil
	}
	return 0, fmt.Errorf("%q is not one of stamped, plain, all", text)
}

func receive(cmd *cobra.Command, r rx.Receiver, counting trial.Counting, load loadFlags, output outputFlags) error {
	ctx := cmd.Context()
	if load.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, load.duration)
		defer cancel()
	}
	progress := output.progress(cmd, true)
	m := trial.Measurement{Receiver: r, Counting: counting, Limit: load.count, OnSample: progress.Sample}
	result, err := m.Run(ctx)
	progress.End()
	return errors.Join(err, printResult(cmd, result, output))
}
