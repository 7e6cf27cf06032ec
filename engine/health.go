package engine

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"sluice/conf"
	"sluice/engine/health"
	"sluice/engine/health/policy"
	"sluice/pipeline/service"
)

// checks returns the health checks of a configuration, and why some of them are sent directly that
// should take their path; nil: none is. The caller holds mu.
func (e *Engine) checks(cfg *conf.Config) (checks map[service.BackendID]health.Check, direct error) {
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
				Type: health.Type(h.Type), Target: netip.AddrPortFrom(b.Key.Address, s.CheckPort(b)),
				Interval: h.Interval, Timeout: h.Timeout, Rise: h.Rise, Fall: h.Fall, FlapHold: h.FlapHold,
				Path: h.Path, Host: h.Host, ExpectStatus: h.ExpectStatus, ExpectBody: h.ExpectBody,
				Send: h.Send, Expect: h.Expect, Query: h.Query,
			}
			if err := e.setPath(s, b, &c); err != nil {
				direct = err
			}
			out[s.Key.BackendID(b.Key)] = c
		}
	}
	return out, direct
}

// healthState is what the engine holds of its services' health between two tables. Guarded by
// Engine.mu.
type healthState struct {
	policy *policy.State                      // that the tables follow; nil before the first ones
	checks map[service.BackendID]health.State // the results that policy is fed with
	// behind: a step was not published: the next one evaluates all services
	behind bool
	grow   *time.Timer // calls for a step when the portion of a weight grows
}

// changedChecks collects the backends that have new results of checks, for followHealth. Its
// methods may be called from any goroutine.
type changedChecks struct {
	signal chan struct{} // has an element if there is something to do

	mu  sync.Mutex
	ids map[service.BackendID]bool
}

func newChangedChecks() *changedChecks {
	return &changedChecks{signal: make(chan struct{}, 1), ids: make(map[service.BackendID]bool)}
}

// add puts the result of a backend's check on the list.
func (c *changedChecks) add(id service.BackendID, _, _ health.State) {
	c.mu.Lock()
	c.ids[id] = true
	c.mu.Unlock()
	c.wake()
}

// wake has followHealth make a step.
func (c *changedChecks) wake() {
	select {
	case c.signal <- struct{}{}:
	default: // the step that is about to be made includes this
	}
}

// collect returns the list and empties it.
func (c *changedChecks) collect() map[service.BackendID]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	ids := c.ids
	c.ids = make(map[service.BackendID]bool)
	return ids
}

// policyInput returns what a step of the policy reads for an update, now. The caller holds mu.
func (e *Engine) policyInput(u *update, freeze policy.Freeze) policy.Input {
	in := policy.Input{Checks: u.results, Overrides: u.overrides, Freeze: freeze, Now: time.Now(), Unreachable: e.surroundings.WhyUnreachable()}
	if u.direct != nil {
		in.Direct = directText(u.direct)
	}
	in.Detached, in.ToKernel = e.detachedText(), e.kernel.Alarm()
	if n, example := e.prober.NotRun(); n > 0 {
		in.NotRun = fmt.Sprintf("%d health checks cannot be run, and their backends keep their states: %v. "+
			"This host lacks file descriptors (LimitNOFILE), ports (ip_local_port_range) or memory", n, example)
	}
	if s := e.health.policy; s != nil && s.Config().Config == u.config {
		in.Config = s.Config()
	} else {
		in.Config = policy.NewIndex(u.config)
	}
	return in
}

// healthPause is the least time between two tables for changes of health: when many backends fail
// at once, one table includes all of them. Tables that take long to build are built less often.
const (
	healthPause  = 20 * time.Millisecond
	pausePerWork = 4
	// growPause is the least time between two tables for growing weights.
	growPause = 100 * time.Millisecond
)

// followHealth publishes tables after changes of health, until ctx ends.
func (e *Engine) followHealth(ctx context.Context) {
	defer e.running.Done()
	for {
		select {
		case <-e.results.signal:
		case <-ctx.Done():
			return
		}
		e.mu.Lock()
		began := time.Now()
		if !e.closed {
			if err := e.feedHealth(e.results.collect()); err != nil {
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

// feedHealth makes a step for the backends that have new results, and for those of which the weight
// grows. The results are read here, not taken from the prober's call: a call may come late, for a
// check that has been replaced. The caller holds mu.
func (e *Engine) feedHealth(ids map[service.BackendID]bool) error {
	var changed []service.Key
	for id := range ids {
		if state, checked := e.prober.State(id); checked {
			e.health.checks[id] = state
			changed = append(changed, id.Service)
		}
	}
	now := e.health.policy
	u := e.present()
	in := e.policyInput(&u, now.Freeze())
	if e.health.behind {
		return e.follow(now.Step(in))
	}
	return e.follow(now.StepServices(in, changed))
}

// readResults reads the latest results of the checks of the services; of all services, if none is
// named. A step that an order of an operator causes needs it: the prober does not call for a result
// that changes a reason only. The caller holds mu.
func (e *Engine) readResults(of ...service.Key) {
	if len(of) == 0 {
		e.health.checks = e.prober.States()
		return
	}
	config := e.health.policy.Config()
	for _, key := range of {
		s := config.Service(key)
		for i := 0; s != nil && i < len(s.Backends); i++ {
			id := key.BackendID(s.Backends[i].Key)
			if state, checked := e.prober.State(id); checked {
				e.health.checks[id] = state
			}
		}
	}
}

// follow makes a step the one that holds. It publishes tables if they differ. The caller holds mu.
func (e *Engine) follow(next *policy.State, events []policy.Event) error {
	if next.SameTables(e.health.policy) {
		e.commitHealth(next, events)
		return nil
	}
	u := e.present()
	u.policy, u.events = next, events
	return e.publish(&u)
}

// commitHealth makes a step the one that the tables follow, and logs what has changed. The caller
// holds mu.
func (e *Engine) commitHealth(next *policy.State, events []policy.Event) {
	e.health.policy, e.health.behind = next, false
	for i := range events {
		e.logHealth(&events[i])
	}
	if due := next.Due(); !due.IsZero() {
		e.health.grow.Reset(max(time.Until(due), growPause))
	}
}

func (e *Engine) logHealth(ev *policy.Event) {
	switch ev.Kind {
	case policy.StateChanged:
		log, fields := e.log.Info, []any{
			"event", "backend_" + ev.To.State, "service", ev.Service, "backend", ev.Backend.String(),
			"from", ev.From.State, "to", ev.To.State, "after", ev.After.Round(time.Millisecond).String(), "why", ev.To.Reason,
		}
		if ev.To.State == policy.Down {
			log, fields = e.log.Warn, append(fields, "protected", ev.Protected)
		}
		log("backend changed state", fields...)
	case policy.AlarmRaised:
		e.log.Warn("alarm raised", "event", "alarm_raised", "kind", ev.Alarm.Kind, "service", ev.Service, "text", ev.Alarm.Text)
	case policy.AlarmEnded:
		e.log.Info("alarm ended", "event", "alarm_ended", "kind", ev.Alarm.Kind, "service", ev.Service,
			"after", ev.After.Round(time.Millisecond).String())
	}
}
