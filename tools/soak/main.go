package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"sluice/tools/netlab/backend"
)

func main() {
	runIfChild()
	backend.RunIfChild() // the testbed's backends are this program, too
	o := Options{Name: "soak", Out: os.Stdout}
	flag.StringVar(&o.Sluice, "sluice", "bin/sluice", "the program to soak")
	flag.DurationVar(&o.Time, "time", 20*time.Minute, "how long there is traffic")
	flag.IntVar(&o.Rate, "rate", 500, "new connections per second")
	flag.IntVar(&o.Loss, "loss", 10, "per cent of the segments that are lost, in each direction")
	flag.DurationVar(&o.Reload, "reload", 10*time.Second, "time between reloads")
	flag.DurationVar(&o.Death, "death", 15*time.Second, "time between deaths of backends")
	flag.DurationVar(&o.Timeout, "timeout", 2*time.Minute, "how long a client waits for each step")
	flag.Uint64Var(&o.Seed, "seed", 1, "of everything random but the loss")
	flag.Parse()
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "soak: needs root, because it makes network namespaces: sudo make soak")
		os.Exit(1)
	}
	os.Exit(status(o))
}

// status runs a soak and returns the exit status. Ctrl-C ends it early and cleans up; a second
// Ctrl-C ends it at once.
func status(o Options) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop)
	var err error
	if o.Sluice, err = filepath.Abs(o.Sluice); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		return 1
	}
	s := &soak{Options: o}
	if err := s.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "soak: FAILED:", err)
		if s.daemon != nil {
			fmt.Fprintf(os.Stderr, "the daemon said at last:\n%.20000s\n", s.daemon.Process.Output())
		}
		return 1
	}
	if len(s.wrong) > 0 {
		fmt.Fprintf(os.Stderr, "soak: FAILED: %d things were wrong, the first: %s\n", len(s.wrong), s.wrong[0])
		return 1
	}
	fmt.Printf("\nEvery broken connection is explained by the death of a backend.\n")
	return 0
}
