package engine

import (
	"context"
	"fmt"
	"time"
)

// Two things happen in the daemon because a time has come, whether or not whoever asked for them
// still lives: the connections of a drained backend end, and a configuration that nobody confirmed
// goes.

// retryExpire is how long after a failure to bring the former configuration back it is tried again.
const retryExpire = time.Second

// wake has keepTime look at the deadlines again.
func (e *Engine) wake() {
	select {
	case e.woken <- struct{}{}:
	default: // it will look anyway
	}
}

// keepTime waits for deadlines and does what they are for, until ctx ends.
func (e *Engine) keepTime(ctx context.Context) {
	defer e.running.Done()
	seen := time.Now()
	for {
		var timer <-chan time.Time
		if next := e.nextDeadline(seen); !next.IsZero() {
			timer = time.After(time.Until(next))
		}
		select {
		case <-timer:
		case <-e.woken:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		e.endDrains(seen, now)
		e.endPending(now)
		seen = now
	}
}

// nextDeadline is the first one after seen; zero: none.
func (e *Engine) nextDeadline(seen time.Time) time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	next := e.overrides.NextDeadline(seen)
	if p := e.pending; p != nil && (next.IsZero() || p.deadline.Before(next)) {
		next = p.deadline
	}
	return next
}

// endDrains publishes tables in which the backends whose deadline came between then and now lose
// their connections.
func (e *Engine) endDrains(then, now time.Time) {
	e.changing.Lock()
	defer e.changing.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	expired := e.overrides.Expired(then, now)
	if len(expired) == 0 {
		return
	}
	if err := e.republish(); err != nil {
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

// endPending brings the former configuration back when nobody has confirmed the present one in
// time.
func (e *Engine) endPending(now time.Time) {
	e.changing.Lock()
	defer e.changing.Unlock()
	p := e.pending
	if p == nil || now.Before(p.deadline) {
		return
	}
	changes, err := e.expire()
	if err != nil {
		e.log.Error("nobody confirmed the configuration, and the former one can't come back; it is tried again", "generation", p.now.Number, "error", err)
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
	e.noteReload(fmt.Errorf("nobody confirmed generation %d in time: generation %d is back", p.now.Number, p.before.Number))
	e.log.Warn("nobody confirmed the configuration: the former one is back", "event", "config_reverted", "generation", p.before.Number, "not confirmed", p.now.Number)
}
