package main

import (
	"context"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"sluice/engine/api"
)

// pingsPerPeriod is how often systemd's watchdog is fed before it would bite: two pings may come late.
const pingsPerPeriod = 3

// watchdog feeds systemd's watchdog, if there is one, for as long as every worker turns, until ctx ends. That the
// process lives is not enough: a worker that hangs stops the pings, systemd ends the daemon with SIGABRT, which writes
// down what each goroutine was doing, and starts it anew.
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

// told is a Control that tells systemd about reloads, whoever asks for them.
type told struct {
	api.Control
	runner *runner
}

func (t told) Reload(ctx context.Context, o api.ReloadOptions) (api.ReloadResult, error) {
	t.runner.notify(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
	defer t.runner.serving(ctx, t.Control)
	return t.Control.Reload(ctx, o)
}

// serving tells systemd that packets flow, and `systemctl status` for how many services.
func (r *runner) serving(ctx context.Context, control api.Control) {
	state := daemon.SdNotifyReady
	if services, err := control.List(ctx); err == nil {
		state += fmt.Sprintf("\nSTATUS=%d services", len(services))
	}
	r.notify(state)
}
