package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"sluice/engine/api"
)

// notifier sends states to systemd, if systemd started this process, on a goroutine of its own: a
// systemd that is slow to read them, or never does, holds up nothing.
type notifier struct {
	logger *slog.Logger
	states chan string // in order
	stop   chan struct{}
	ended  chan struct{}
	failed bool // the last state could not be sent; of the goroutine
}

// notifyTimeout is how long end waits for systemd to read the last states.
const notifyTimeout = time.Second

// newNotifier returns a notifier, which the caller ends.
func newNotifier(logger *slog.Logger) *notifier {
	n := &notifier{logger: logger, states: make(chan string, 64), stop: make(chan struct{}), ended: make(chan struct{})}
	go n.run()
	return n
}

// notify passes a state on. If too many wait, the oldest is dropped, so that systemd will know the
// last one.
func (n *notifier) notify(state string) {
	if state == systemd.SdNotifyWatchdog && len(n.states) > 0 {
		return // a sign of life that comes late is none
	}
	for {
		select {
		case n.states <- state:
			return
		default:
		}
		select {
		case <-n.states:
		default:
		}
	}
}

// run sends states until end is called, and those that wait then.
func (n *notifier) run() {
	defer close(n.ended)
	for {
		select {
		case state := <-n.states:
			n.send(state)
			continue
		case <-n.stop:
		}
		select {
		case state := <-n.states:
			n.send(state)
		default:
			return
		}
	}
}

func (n *notifier) send(state string) {
	_, err := systemd.SdNotify(false, state)
	if err != nil && !n.failed {
		n.logger.Warn("systemd or sluice keep cannot be told, or is gone: then nothing outlives this process, or restarts it", "state", state, "error", err)
	}
	n.failed = err != nil
}

// end ends the notifier when all states are sent, or does not wait any longer.
func (n *notifier) end() {
	close(n.stop)
	select {
	case <-n.ended:
	case <-time.After(notifyTimeout):
		n.logger.Warn("systemd does not read what it is told", "waited", notifyTimeout)
	}
}

// systemdNotifier is a Control that notifies systemd of every reload made through it.
type systemdNotifier struct {
	api.Control
	runner *runner
}

func (n systemdNotifier) Reload(ctx context.Context, o api.ReloadOptions) (api.ReloadResult, error) {
	n.runner.systemd.notify(systemd.SdNotifyReloading + "\n" + systemd.SdNotifyMonotonicUsec())
	defer n.runner.serving(ctx, n.Control)
	return n.Control.Reload(ctx, o)
}

// serving notifies systemd that packets flow. `systemctl status` shows the number of services.
func (r *runner) serving(ctx context.Context, control api.Control) {
	state := systemd.SdNotifyReady
	if services, err := control.List(ctx); api.Answered(err) == nil {
		state += fmt.Sprintf("\nSTATUS=%d services", len(services))
	}
	r.systemd.notify(state)
}
