package engine

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"sluice/engine/answers"
	"sluice/engine/api"
	"sluice/engine/worker"
)

// takenUp waits until the workers have what was published last. It returns an Unresponsive that
// names those that have not. A client that has gone does not make a change undone.
func (e *Engine) takenUp(ctx context.Context) error {
	silent, err := e.workers.Ask(context.WithoutCancel(ctx), func(*worker.Worker) {})
	if err != nil {
		return nil // the daemon is stopping
	}
	return answers.Unresponsive(silent, true)
}

// begin locks changeMu for a request, unless its client has gone meanwhile. The caller unlocks it.
func (e *Engine) begin(ctx context.Context) error {
	e.changeMu.Lock()
	if err := wanted(ctx); err != nil {
		e.changeMu.Unlock()
		return err
	}
	return nil
}

// wanted returns an error if the client of a change has gone: it would not know of it.
func wanted(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return stateError{fmt.Errorf("nothing was changed: the request has ended: %w", err)}
	}
	return nil
}

// stuckAlarms returns an alarm for each worker that is stuck.
func (e *Engine) stuckAlarms() (all []api.Alarm) {
	for _, s := range e.workers.Stuck() {
		all = append(all, api.Alarm{
			Kind: api.AlarmStuck, SinceS: time.Since(s.Since).Seconds(),
			Text: fmt.Sprintf("worker %d (CPU %d) has not answered since %s: packets of its queues are lost, and it works by old tables; "+
				"the log of the kernel may say why; a restart ends it", s.Worker, s.CPU, s.Since.Format(time.TimeOnly)),
		})
	}
	return all
}

// family returns the family of an address.
func family(a netip.Addr) int {
	if a.Is4() {
		return 4
	}
	return 6
}
