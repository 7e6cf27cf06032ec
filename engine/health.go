package engine

import (
	"net/netip"

	"sluice/conf"
	"sluice/engine/health"
	"sluice/pipeline/service"
)

// checks translates a configuration into what the prober is to do.
func checks(cfg *conf.Config) map[health.ID]health.Check {
	out := make(map[health.ID]health.Check)
	for _, s := range cfg.Services {
		h := s.Health
		if h.Type == conf.HealthNone {
			continue
		}
		for _, b := range s.Backends {
			port := b.Key.Port
			if h.Port != 0 {
				port = uint16(h.Port)
			}
			out[health.ID{Service: s.Key, Backend: b.Key}] = health.Check{
				Type: health.Type(h.Type), Target: netip.AddrPortFrom(b.Key.Address, port),
				Interval: h.Interval, Timeout: h.Timeout, Rise: h.Rise, Fall: h.Fall,
				Path: h.Path, Host: h.Host, ExpectStatus: h.ExpectStatus, ExpectBody: h.ExpectBody,
				Send: h.Send, Expect: h.Expect, Query: h.Query,
			}
		}
	}
	return out
}

// healthChanged takes a backend in or out of the schedulers' choice. Called by the prober.
func (e *Engine) healthChanged(id health.ID, s health.State) {
	e.mu.Lock()
	defer e.mu.Unlock()
	log := e.log.Info
	if !s.Up {
		log = e.log.Warn
	}
	log("backend changed state", "service", id.Service.String(), "backend", id.Backend.String(), "up", s.Up, "why", s.Reason)
	if e.closed {
		return
	}
	if err := e.publish(e.cfg); err != nil {
		e.log.Error("tables could not follow a change of health", "err", err)
	}
}

// backendName is what a backend is known by: its service and its key there.
type backendName struct {
	Service service.Key
	Backend service.BackendKey
}

// downNow lists the backends that are down.
func (e *Engine) downNow() map[backendName]bool {
	down := make(map[backendName]bool)
	for id, s := range e.prober.States() {
		if !s.Up {
			down[backendName(id)] = true
		}
	}
	return down
}
