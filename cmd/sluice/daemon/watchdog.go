package daemon

import (
	"context"
	"fmt"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
)

// pingsPerPeriod is how many pings are sent in one watchdog period: two of them may be late.
const pingsPerPeriod = 3

// watchdog pings the watchdog of systemd or `sluice keep`, if there is one, until ctx ends or the
// engine has failed: if the process is stopped or hangs as a whole, the pings stop, and it is ended
// with SIGABRT, which prints the stack of every goroutine, and started again. Workers that hang end
// the process by themselves. The period is at most stuckAfter.
func (r *runner) watchdog(ctx context.Context, failed <-chan struct{}, stuckAfter time.Duration) {
	period, err := systemd.SdWatchdogEnabled(false)
	if err != nil {
		r.logger.Warn("systemd's watchdog is not fed", "error", err)
	}
	if period <= 0 {
		return
	}
	if stuckAfter > 0 && stuckAfter < period {
		period = stuckAfter
		r.systemd.notify(fmt.Sprintf("WATCHDOG_USEC=%d", period.Microseconds()))
	}
	ticker := time.NewTicker(period / pingsPerPeriod)
	defer ticker.Stop()
	for {
		r.systemd.notify(systemd.SdNotifyWatchdog)
		select {
		case <-ticker.C:
		case <-failed:
			return
		case <-ctx.Done():
			return
		}
	}
}
