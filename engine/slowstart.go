package engine

import (
	"time"

	"sluice/conf"
	"sluice/engine/tables"
	"sluice/pipeline/service"
)

// Slow start: a backend that comes up, or that a reload brings to a service, begins with a
// sixteenth of its weight and gains another with every fifteenth of slow_start. All weights of its
// service are multiplied meanwhile, so that a weight of 1 has sixteenths too. Nothing else in the
// choice of backends knows about it.
//
// A backend that is there when the daemon starts, or when its service comes to the configuration,
// has its whole weight: they all do.
const (
	weightSteps = tables.WeightSteps
	// stepPause is the least time between two tables for growing weights.
	stepPause = 100 * time.Millisecond
)

// grow decides how much of their weight starting backends have: those that were down in the tables,
// and are not any more, start now. The caller holds mu.
func (e *Engine) grow(j *judgement, cfg *conf.Config, now time.Time) {
	configured := make(map[service.BackendID]bool)
	for i := range cfg.Services {
		s := &cfg.Services[i]
		for _, b := range s.Backends {
			name := s.Key.BackendID(b.Key)
			if e.judged != nil && e.judged.down[name] && !j.down[name] && j.protected[name] == "" {
				e.wards.starting[name] = now
			}
			since, starting := e.wards.starting[name]
			if !starting || j.down[name] || s.SlowStart == 0 || e.overrides.Weight(name, b.Weight) == 0 {
				continue
			}
			done := 1 + int(now.Sub(since)*(weightSteps-1)/s.SlowStart)
			if done >= weightSteps {
				continue
			}
			configured[name], j.shares[name] = true, done
			next := since.Add(time.Duration(done) * s.SlowStart / (weightSteps - 1))
			if j.next.IsZero() || next.Before(j.next) {
				j.next = next
			}
		}
	}
	for name := range e.wards.starting {
		if !configured[name] {
			delete(e.wards.starting, name)
		}
	}
}

// startNew has the backends start that next brings to services that are there already. The caller
// holds mu.
func (e *Engine) startNew(now, next *conf.Config) {
	services := make(map[service.Key]bool)
	known := make(map[service.BackendID]bool)
	for _, s := range now.Services {
		services[s.Key] = true
		for _, b := range s.Backends {
			known[s.Key.BackendID(b.Key)] = true
		}
	}
	for _, s := range next.Services {
		for _, b := range s.Backends {
			if name := s.Key.BackendID(b.Key); services[s.Key] && !known[name] {
				e.wards.starting[name] = time.Now()
			}
		}
	}
}
