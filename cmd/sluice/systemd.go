package main

import (
	"context"
	"fmt"

	"github.com/coreos/go-systemd/v22/daemon"

	"sluice/engine/api"
)

// notify tells systemd, if it is systemd that started us.
func (r *runner) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		r.logger.Warn("systemd cannot be told", "state", state, "error", err)
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
