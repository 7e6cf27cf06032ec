package daemon

import (
	"context"
	"fmt"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"sluice/engine/api"
)

// notify sends a state to systemd, if systemd started this process.
func (r *runner) notify(state string) {
	if _, err := systemd.SdNotify(false, state); err != nil {
		r.logger.Warn("systemd cannot be told", "state", state, "error", err)
	}
}

// systemdNotifier is a Control that notifies systemd of every reload made through it.
type systemdNotifier struct {
	api.Control
	runner *runner
}

func (n systemdNotifier) Reload(ctx context.Context, o api.ReloadOptions) (api.ReloadResult, error) {
	n.runner.notify(systemd.SdNotifyReloading + "\n" + systemd.SdNotifyMonotonicUsec())
	defer n.runner.serving(ctx, n.Control)
	return n.Control.Reload(ctx, o)
}

// serving notifies systemd that packets flow. `systemctl status` shows the number of services.
func (r *runner) serving(ctx context.Context, control api.Control) {
	state := systemd.SdNotifyReady
	if services, err := control.List(ctx); api.Answered(err) == nil {
		state += fmt.Sprintf("\nSTATUS=%d services", len(services))
	}
	r.notify(state)
}
