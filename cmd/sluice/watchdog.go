package main

import (
	"context"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// pingsPerPeriod is how often systemd's watchdog is fed before it would bite: two pings may come
// late.
const pingsPerPeriod = 3

// watchdog feeds systemd's watchdog, if there is one, for as long as every worker turns, until ctx
// ends. That the process lives is not enough: a worker that hangs stops the pings, systemd ends the
// daemon with SIGABRT, which writes down what each goroutine was doing, and starts it anew.
func (r *runner) watchdog(ctx context.Context, engine machine) {
	period, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		r.logger.Warn("systemd's watchdog is not fed", "error", err)
	}
	if period <= 0 {
		return
	}
	every := period / pingsPerPeriod
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		look, cancel := context.WithTimeout(ctx, every)
		err := engine.Alive(look)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			r.logger.Error("systemd's watchdog is not fed", "event", "worker_stuck", "error", err)
		default:
			r.notify(daemon.SdNotifyWatchdog)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
