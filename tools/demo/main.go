package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"sluice/tools/netlab/backend"
)

// waitLimit bounds the whole demonstration, which takes less than a minute.
const waitLimit = 3 * time.Minute

func main() {
	backend.RunIfChild() // the backends are this program, too
	sluice := flag.String("sluice", "bin/sluice", "the program to demonstrate")
	flag.Parse()
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "demo: needs root, because it makes network namespaces: sudo make demo")
		os.Exit(1)
	}
	os.Exit(demonstrate(*sluice))
}

// demonstrate runs the demonstration and returns the exit status. Ctrl-C ends it early and cleans
// up; a second Ctrl-C ends it at once.
func demonstrate(sluice string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop)
	ctx, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()

	d := &demo{started: time.Now(), sluice: sluice}
	err := d.run(ctx)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "demo: stopped:", context.Cause(ctx))
	case err != nil:
		fmt.Fprintln(os.Stderr, "demo: FAILED:", err)
	case d.failed():
		fmt.Fprintf(os.Stderr, "demo: FAILED: not right was:\n  %s\n", strings.Join(d.wrong, "\n  "))
	default:
		fmt.Printf("\nEverything was right, in %.0f s.\n", time.Since(d.started).Seconds())
		return 0
	}
	return 1
}
