package engine

import (
	"context"
	"fmt"
	"time"

	"sluice/pipeline/service"
)

// Four kinds of deadline are the daemon's own, whether or not the client that set them is still
// connected: at the deadline of a drain the backend's connections end, a prefix that was denied or
// allowed for a time is as before when it is over, and at the deadline of an unconfirmed
// configuration the former one comes back. The fourth ends the time in which a service that adopts
// connections remembers its backends from before a change.

// retryExpire is the time between two attempts to restore the former configuration.
const retryExpire = time.Second

// wake makes followDeadlines read the deadlines again.
func (e *Engine) wake() {
	select {
	case e.deadlinesChanged <- struct{}{}:
	default: // it will read them anyway
	}
}

// followDeadlines ends drains, access entries and unconfirmed configurations when their deadlines
// come, until ctx ends.
func (e *Engine) followDeadlines(ctx context.Context) {
	defer e.running.Done()
	seen := time.Now()
	for {
		var timer <-chan time.Time
		if next := e.nextDeadline(seen); !next.IsZero() {
			timer = time.After(time.Until(next))
		}
		select {
		case <-timer:
		case <-e.deadlinesChanged:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		e.endDrains(seen, now)
		e.endAccess(now)
		e.endPending(now)
		e.settle(now)
		seen = now
	}
}

// nextDeadline is the first one after seen; zero: none.
func (e *Engine) nextDeadline(seen time.Time) time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	next := e.overrides.NextDeadline(seen)
	if end := e.access.NextEnd(seen); !end.IsZero() && (next.IsZero() || end.Before(next)) {
		next = end
	}
	if p := e.pending; p != nil && (next.IsZero() || p.deadline.Before(next)) {
		next = p.deadline
	}
	if at := e.compiled.SettlesAt(); !at.IsZero() && (next.IsZero() || at.Before(next)) {
		next = at
	}
	return next
}

// settle publishes tables in which services forget what they chose from before a change, if it is
// time.
func (e *Engine) settle(now time.Time) {
	e.changeMu.Lock()
	defer e.changeMu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if at := e.compiled.SettlesAt(); e.closed || at.IsZero() || at.After(now) {
		return
	}
	if err := e.republish(); err != nil {
		e.log.Error("tables could not forget the backends from before a change", "event", "tables_failed", "error", err)
	}
}

// endDrains publishes tables in which backends lose their connections if the deadline of their
// drain came between then and now.
func (e *Engine) endDrains(then, now time.Time) {
	e.changeMu.Lock()
	defer e.changeMu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	expired := e.overrides.Expired(then, now)
	if len(expired) == 0 {
		return
	}
	if err := e.override(e.overrides, services(expired)...); err != nil {
		e.log.Error("tables could not follow the deadline of a drain", "event", "tables_failed", "error", err)
		return
	}
	names := serviceNames(e.cfg)
	for _, name := range expired {
		if of, configured := names[name.Service]; configured {
			e.log.Info("drain: the deadline has come, connections end", "event", "drain_deadline", "service", of, "backend", name.Backend.String())
		}
	}
}

// services returns the services of the backends.
func services(ids []service.BackendID) []service.Key {
	keys := make([]service.Key, len(ids))
	for i, id := range ids {
		keys[i] = id.Service
	}
	return keys
}

// endPending restores the former configuration when the present one was not confirmed in time.
func (e *Engine) endPending(now time.Time) {
	e.changeMu.Lock()
	defer e.changeMu.Unlock()
	p := e.pending
	if p == nil || now.Before(p.deadline) {
		return
	}
	changes, err := e.expire()
	if err != nil {
		e.log.Error("the configuration was not confirmed and the former one cannot be restored; the engine tries again", "generation", p.now.Number, "error", err)
		e.mu.Lock()
		late := *p
		late.deadline = now.Add(retryExpire)
		e.pending = &late
		e.mu.Unlock()
		return
	}
	for _, change := range changes {
		e.log.Warn("not confirmed: " + change)
	}
	e.recordReload(fmt.Errorf("generation %d was not confirmed in time: generation %d is back", p.now.Number, p.before.Number))
	e.log.Warn("the configuration was not confirmed: the former one is back", "event", "config_reverted", "generation", p.before.Number, "not confirmed", p.now.Number)
}
