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
	"sluice/tools/netlab/loadgen"
)

func main() {
	backend.RunIfChild() // backends, servers and clients are this program, too
	loadgen.RunIfChild()
	o := Options{Name: "survive", Out: os.Stdout, Events: map[string]int{}}
	flag.StringVar(&o.Sluice, "sluice", "bin/sluice", "the program to test")
	flag.IntVar(&o.Connections, "connections", 10_000, "connections that are alive, half of them busy")
	flag.IntVar(&o.PerS, "rate", 1000, "new connections per second")
	flag.IntVar(&o.Workers, "workers", 1, "workers, with a CPU each")
	flag.DurationVar(&o.Every, "every", time.Second, "time between two messages of a busy connection")
	flag.DurationVar(&o.Calm, "calm", 10*time.Second, "time without an event, at first")
	flag.DurationVar(&o.Pause, "pause", 8*time.Second, "least time from the traffic of an event to the next; the keeper forgets a start after ten seconds")
	flag.Uint64Var(&o.Seed, "seed", 1, "of the order and the moments of events")
	log := flag.Bool("log", false, "print what keeper and daemons said")
	var counts []func()
	for _, k := range kinds {
		n := flag.Int(k.name, k.times, "events: "+k.usage)
		counts = append(counts, func() { o.Events[k.name] = *n })
	}
	flag.Parse()
	for _, count := range counts {
		count()
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "survive: needs root, because it makes network namespaces: sudo make survive")
		os.Exit(1)
	}
	os.Exit(status(o, *log))
}

// status makes a run and returns the exit status. Ctrl-C ends it early and cleans up; a second
// Ctrl-C ends it at once.
func status(o Options, log bool) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop)
	var err error
	if o.Sluice, err = filepath.Abs(o.Sluice); err != nil {
		fmt.Fprintln(os.Stderr, "survive:", err)
		return 1
	}
	r := &run{Options: o}
	err = r.all(ctx)
	if log && r.daemon != nil {
		fmt.Printf("\n%s\n", r.daemon.Process.Output())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "survive: FAILED:", err)
		if r.daemon != nil {
			fmt.Fprintf(os.Stderr, "the daemon said at last:\n%.20000s\n", r.daemon.Process.Output())
		}
		return 1
	}
	if n := r.report.wrong(); n > 0 {
		fmt.Fprintf(os.Stderr, "survive: FAILED: %d rows of the table are wrong\n", n)
		return 1
	}
	fmt.Println("\nNo connection has noticed.")
	return 0
}
