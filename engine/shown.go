package engine

import (
	"sluice/pipeline/service"
	"time"

	"sluice/conf"
	"sluice/engine/api"
	"sluice/engine/health"
	"sluice/engine/override"
)

// shown is a backend's state as operators see it.
type shown struct {
	state  string // api.StateUp, ...
	since  time.Time
	reason string
}

// noteShown brings what operators see up to date with a judgement. The caller holds mu.
func (e *Engine) noteShown(cfg *conf.Config, j *judgement) {
	now := make(map[service.BackendID]shown)
	for i := range cfg.Services {
		s := &cfg.Services[i]
		for k, b := range s.Servers() {
			name := s.Key.BackendID(b.Key)
			show := e.show(j, name, &b)
			if k == len(s.Backends) {
				show = showSorry(j, s)
			}
			before, known := e.wards.shown[name]
			if known && before.state == show.state {
				show.since = before.since
			} else if show.since.IsZero() || show.since.Before(before.since) {
				show.since = time.Now()
			}
			if known && before.state != show.state {
				e.logShown(s, &b, before, show)
			}
			now[name] = show
		}
	}
	e.wards.shown = now
}

// logShown tells of a state that operators see from now on.
func (e *Engine) logShown(s *conf.Service, b *conf.Backend, before, now shown) {
	log := e.log.Info
	if now.state == api.StateDown {
		log = e.log.Warn
	}
	log("backend changed state", "event", "backend_"+now.state, "service", s.Name, "backend", b.Key.String(), "from", before.state, "to", now.state,
		"after", now.since.Sub(before.since).Round(time.Millisecond).String(), "why", now.reason)
}

// refreshed is the judgement that the tables follow with the latest results of checks, and the
// reasons that go with it: both may change while a state lasts. The caller holds mu.
func (e *Engine) refreshed() *judgement {
	j := *e.judged
	j.states = make(map[service.BackendID]health.State, len(e.judged.states))
	latest := e.prober.States()
	for id, state := range e.judged.states {
		if now, checked := latest[id]; checked {
			state.Last = now.Last
			if now.Up == state.Up && !e.wards.isFrozen(id.Service) {
				state.Reason = now.Reason
			}
		}
		j.states[id] = state
	}
	return &j
}

// show says in which state a backend is and why; since is only known if the checks decided. The
// caller holds mu.
func (e *Engine) show(j *judgement, name service.BackendID, b *conf.Backend) shown {
	state, checked := j.states[name]
	reason := "not checked"
	if checked {
		reason = state.Reason
	}
	if e.wards.isFrozen(name.Service) && checked {
		reason = "frozen by an operator; before: " + reason
	}
	switch {
	case checked && !state.Up && j.protected[name] != "":
		return shown{api.StateDown, state.Since, reason + "; stays in use: " + j.protected[name]}
	case checked && !state.Up:
		return shown{api.StateDown, state.Since, reason}
	case e.overrides.Weight(name, b.Weight) > 0:
		return shown{api.StateUp, state.Since, reason}
	}
	switch e.overrides[name].Kind() {
	case override.Weight:
		return shown{state: api.StateDrain, reason: "an operator set weight 0"}
	case override.Drain:
		return shown{state: api.StateDrain, reason: "an operator drains it"}
	case override.Disable:
		return shown{state: api.StateDrain, reason: "an operator disabled it"}
	}
	return shown{state: api.StateDrain, reason: "the file has weight 0"}
}

func showSorry(j *judgement, s *conf.Service) shown {
	if j.sorry[s.Key] {
		return shown{state: api.StateUp, reason: "no backend is up with a weight above 0"}
	}
	return shown{state: api.StateStandby, reason: "some backend is up"}
}
