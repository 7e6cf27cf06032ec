package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"sluice/cmd/cli"
	"sluice/tools/pktgen/affinity"
	"sluice/tools/pktgen/rx"
	"sluice/tools/pktgen/trial"
	"sluice/tools/pktgen/tx"
)

// endFlags select one end. Their names begin with prefix in verbs that have both ends.
type endFlags struct {
	end  trial.End
	flag string // for the interface
}

func (f *endFlags) add(cmd *cobra.Command, prefix, what string) {
	f.flag = prefix
	if prefix != "" {
		prefix += "-"
	} else {
		f.flag = "interface"
	}
	flags := cmd.Flags()
	flags.StringVar(&f.end.Interface, f.flag, "", "interface that "+what)
	flags.StringVar(&f.end.Affinity.Netns, prefix+"netns", "", "network namespace of it: a name in /run/netns, or a path")
	addForce(cmd)
	flags.IntVar(&f.end.Affinity.CPU, prefix+"cpu", affinity.AnyCPU, "CPU of the thread that "+what+" (-1: any)")
}

func (f *endFlags) check() error {
	if f.end.Interface == "" {
		return cli.Usage(fmt.Errorf("--%s is missing: it names an interface", f.flag))
	}
	return nil
}

// senderFlags select how to send.
type senderFlags struct {
	endFlags
	backend tx.Backend
	queue   int
	rate    float64
}

func (f *senderFlags) add(cmd *cobra.Command, prefix string) {
	f.endFlags.add(cmd, prefix, "sends")
	flags := cmd.Flags()
	flags.Var(newValue(&f.backend, f.backend.String(), "BACKEND", tx.ParseBackend), "backend",
		"how to send: live (in the kernel), xsk (AF_XDP), packet (AF_PACKET), or auto")
	flags.IntVar(&f.queue, "queue", 0, "queue of the interface, for backend xsk")
}

func (f *senderFlags) addRate(cmd *cobra.Command) {
	cmd.Flags().Var(newValue(&f.rate, "max", "PPS", parseRate), "rate", "frames per second, as 250000, 250k, 1.5M, or max")
}

// receiverFlags select how to receive.
type receiverFlags struct {
	endFlags
	backend rx.Backend
	follow  bool
	latency bool
}

func (f *receiverFlags) add(cmd *cobra.Command, prefix string) {
	f.endFlags.add(cmd, prefix, "receives")
	flags := cmd.Flags()
	flags.Var(newValue(&f.backend, f.backend.String(), "BACKEND", rx.ParseBackend), "receiver", "how to receive: kernel (an XDP program counts), xsk (AF_XDP sockets)")
	flags.BoolVar(&f.follow, "follow", true, "measure order, duplicates and loss of each flow")
	flags.BoolVar(&f.latency, "latency", true, "measure latency")
}

// loadFlags select for how long.
type loadFlags struct {
	duration time.Duration
	count    uint64
}

func (f *loadFlags) add(cmd *cobra.Command, standard time.Duration) {
	cmd.Flags().DurationVar(&f.duration, "duration", standard, "end after this time; 0: don't")
	cmd.Flags().Uint64Var(&f.count, "count", 0, "end after so many frames; 0: don't")
}

func (f *loadFlags) check() error {
	if f.duration < 0 {
		return cli.Usage(fmt.Errorf("--duration %v is negative", f.duration))
	}
	return nil
}
