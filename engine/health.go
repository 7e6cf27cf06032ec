package engine

import (
	"context"
	"net/netip"
	"time"

	"sluice/conf"
	"sluice/engine/health"
	"sluice/pipeline/service"
)

// checks translates a configuration into what the prober is to do. The caller holds mu.
func (e *Engine) checks(cfg *conf.Config) map[service.BackendID]health.Check {
	e.direct = nil
	out := make(map[service.BackendID]health.Check)
	for i := range cfg.Services {
		s := &cfg.Services[i]
		h := s.Health
		if h.Type == conf.HealthNone {
			continue
		}
		for j := range s.Backends {
			b := &s.Backends[j]
			c := health.Check{
				Type: health.Type(h.Type), Target: netip.AddrPortFrom(b.Key.Address, checkPort(s, b)),
				Interval: h.Interval, Timeout: h.Timeout, Rise: h.Rise, Fall: h.Fall, FlapHold: h.FlapHold,
				Path: h.Path, Host: h.Host, ExpectStatus: h.ExpectStatus, ExpectBody: h.ExpectBody,
				Send: h.Send, Expect: h.Expect, Query: h.Query,
			}
			e.takePath(s, b, &c)
			out[s.Key.BackendID(b.Key)] = c
		}
	}
	return out
}

// lookAtHealth has followHealth look whether the tables have to change. Any goroutine may call it.
func (e *Engine) lookAtHealth() {
	select {
	case e.turned <- struct{}{}:
	default: // tables that are still to be made will have this change too
	}
}

// healthPause is the least time between two tables for changes of health: when many backends fail
// at once, one table serves them all. Tables that take long to make are made the less often.
const (
	healthPause  = 20 * time.Millisecond
	pausePerWork = 4
)

// followHealth publishes tables after changes of health, until ctx ends.
func (e *Engine) followHealth(ctx context.Context) {
	defer e.running.Done()
	for {
		select {
		case <-e.turned:
		case <-ctx.Done():
			return
		}
		e.mu.Lock()
		began := time.Now()
		if !e.closed {
			if err := e.publishHealth(); err != nil {
				e.log.Error("tables could not follow a change of health", "event", "tables_failed", "err", err)
			}
		}
		e.mu.Unlock()
		select {
		case <-time.After(max(healthPause, pausePerWork*time.Since(began))):
		case <-ctx.Done():
			return
		}
	}
}

// publishHealth publishes tables if health makes them others than they are. The caller holds mu.
func (e *Engine) publishHealth() error {
	j := e.judge(e.cfg, time.Now())
	if j.sameTables(e.judged) {
		e.settle(e.cfg, j)
		return nil
	}
	return e.publishJudged(e.cfg, j)
}
