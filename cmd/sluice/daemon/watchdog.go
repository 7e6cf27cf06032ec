package daemon

import (
	"context"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
)

// pingsPerPeriod is how many pings are sent in one watchdog period: two of them may be late.
const pingsPerPeriod = 3

// watchdog pings systemd's watchdog, if there is one, while every worker's loop runs, until ctx
// ends. If a worker hangs, the pings stop: systemd ends the process with SIGABRT, which prints the
// stack of every goroutine, and restarts it.
func (r *runner) watchdog(ctx context.Context, engine balancer) {
	period, err := systemd.SdWatchdogEnabled(false)
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
		alive, cancel := context.WithTimeout(ctx, every)
		err := engine.Alive(alive)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			r.logger.Error("systemd's watchdog is not fed", "error", err)
		default:
			r.systemd.notify(systemd.SdNotifyWatchdog)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
