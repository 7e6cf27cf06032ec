package engine

import (
	"context"
	"errors"
	"time"

	"sluice/conf"
	"sluice/engine/api"
	"sluice/engine/health/policy"
	"sluice/pipeline/service"
)

// Alarms implements api.Control.
func (e *Engine) Alarms(context.Context) ([]api.Alarm, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := append(e.stuckAlarms(), e.alarmsAbout(service.Key{}, "")...)
	for i := range e.cfg.Services {
		all = append(all, e.alarmsAbout(e.cfg.Services[i].Key, e.cfg.Services[i].Name)...)
	}
	return all, nil
}

// alarmsAbout lists the alarms of a service, or of the whole daemon: the zero Key. The caller holds
// mu.
func (e *Engine) alarmsAbout(key service.Key, name string) (all []api.Alarm) {
	for _, a := range e.health.policy.Alarms(key) {
		all = append(all, api.Alarm{Kind: a.Kind, Service: name, Text: a.Text, SinceS: time.Since(a.Since).Seconds()})
	}
	if p := e.pressureOn(key, name); p != nil {
		all = append(all, api.Alarm{Kind: api.AlarmPressure, Service: name, Text: pressureText, SinceS: p.SinceS})
	}
	if f := e.firstOf(key, name); f != nil && f.Flood {
		all = append(all, api.Alarm{Kind: api.AlarmFirst, Service: name, Text: firstText, SinceS: f.SinceS})
	}
	return all
}

// FreezeHealth implements api.Control.
func (e *Engine) FreezeHealth(ctx context.Context, name string, frozen bool) ([]string, error) {
	names, err := e.freezeHealth(ctx, name, frozen)
	if err == nil {
		err = e.takenUp(ctx)
	}
	return names, err
}

func (e *Engine) freezeHealth(ctx context.Context, name string, frozen bool) ([]string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errClosed
	}
	if err := wanted(ctx); err != nil {
		return nil, err
	}
	freeze := e.health.policy.Freeze()
	switch s, err := e.findService(name); {
	case name == "":
		freeze = policy.Freeze{All: frozen}
	case err != nil:
		return nil, err
	case freeze.All && !frozen:
		return nil, errors.New("the health of all services is frozen: thaw them all, with sluice health thaw, " +
			"and freeze again those that are to stay so")
	default:
		freeze = freeze.With(s.Key, frozen)
	}
	e.readResults()
	u := e.present()
	if err := e.follow(e.health.policy.Step(e.policyInput(&u, freeze))); err != nil {
		return nil, err
	}
	var names []string
	for i := range e.cfg.Services {
		if s := &e.cfg.Services[i]; freeze.Frozen(s.Key) {
			names = append(names, s.Name)
		}
	}
	return names, nil
}

func serviceNames(cfg *conf.Config) map[service.Key]string {
	names := make(map[service.Key]string, len(cfg.Services))
	for i := range cfg.Services {
		names[cfg.Services[i].Key] = cfg.Services[i].Name
	}
	return names
}
