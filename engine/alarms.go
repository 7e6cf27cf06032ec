package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"sluice/conf"
	"sluice/engine/api"
	"sluice/engine/health"
	"sluice/pipeline/service"
)

// alarmName tells alarms apart. The zero service is the whole daemon.
type alarmName struct {
	kind    string
	service service.Key
}

// alarm is one that is raised.
type alarm struct {
	text  string
	since time.Time
}

// alarmsOf lists a service's alarms. The caller holds mu.
func (e *Engine) alarmsOf(j *judgement, s *conf.Service, v health.Verdict) {
	switch {
	case v.NoneUp && s.Sorry != nil:
		j.alarms[alarmName{api.AlarmNoBackend, s.Key}] = fmt.Sprintf("no backend is up: new connections go to the sorry server, %s", s.Sorry.Key)
	case v.NoneUp && len(v.Protected) == 0:
		j.alarms[alarmName{api.AlarmNoBackend, s.Key}] = "no backend is up: new connections are refused"
	case v.Alarm != "":
		j.alarms[alarmName{api.AlarmProtected, s.Key}] = v.Alarm
	}
	if e.wards.frozen[s.Key] {
		j.alarms[alarmName{api.AlarmFrozen, s.Key}] = fmt.Sprintf("its health is frozen: checks change nothing until `sluice health thaw %s`", s.Name)
	}
}

// noteAlarms raises the judgement's alarms and ends the others, each with one event in the log. The
// caller holds mu.
func (e *Engine) noteAlarms(cfg *conf.Config, j *judgement) {
	names := serviceNames(cfg)
	for name, text := range j.alarms {
		a, raised := e.wards.alarms[name]
		if !raised {
			a.since = time.Now()
			e.log.Warn("alarm raised", "event", "alarm_raised", "kind", name.kind, "service", names[name.service], "text", text)
		}
		a.text = text
		e.wards.alarms[name] = a
	}
	for name, a := range e.wards.alarms {
		if _, still := j.alarms[name]; !still {
			delete(e.wards.alarms, name)
			e.log.Info("alarm ended", "event", "alarm_ended", "kind", name.kind, "service", names[name.service],
				"after", time.Since(a.since).Round(time.Millisecond).String())
		}
	}
}

func serviceNames(cfg *conf.Config) map[service.Key]string {
	names := make(map[service.Key]string, len(cfg.Services))
	for i := range cfg.Services {
		names[cfg.Services[i].Key] = cfg.Services[i].Name
	}
	return names
}

// Alarms implements api.Control.
func (e *Engine) Alarms(context.Context) ([]api.Alarm, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := e.alarmsAbout(service.Key{}, "")
	for i := range e.cfg.Services {
		all = append(all, e.alarmsAbout(e.cfg.Services[i].Key, e.cfg.Services[i].Name)...)
	}
	return all, nil
}

// alarmsAbout lists the alarms of a service, or of the whole daemon: the zero Key. The caller holds
// mu.
func (e *Engine) alarmsAbout(key service.Key, name string) (all []api.Alarm) {
	for _, kind := range api.AlarmKinds() {
		if a, raised := e.wards.alarms[alarmName{kind, key}]; raised {
			all = append(all, api.Alarm{Kind: kind, Service: name, Text: a.text, SinceS: time.Since(a.since).Seconds()})
		}
	}
	return all
}

// isFrozen says whether an operator has frozen the service's health.
func (w *wards) isFrozen(key service.Key) bool { return w.frozenAll || w.frozen[key] }

// frozen is the services whose health an operator has frozen. The caller holds mu.
func (e *Engine) frozen() map[service.Key]bool {
	frozen := map[service.Key]bool{}
	for i := range e.cfg.Services {
		if key := e.cfg.Services[i].Key; e.wards.isFrozen(key) {
			frozen[key] = true
		}
	}
	return frozen
}

// FreezeHealth implements api.Control.
func (e *Engine) FreezeHealth(_ context.Context, name string, frozen bool) ([]string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errClosed
	}
	switch s, err := e.findService(name); {
	case name == "":
		e.wards.frozenAll = frozen
		clear(e.wards.frozen)
	case err != nil:
		return nil, err
	case e.wards.frozenAll && !frozen:
		return nil, fmt.Errorf("the health of all services is frozen: thaw them all, with sluice health thaw, " +
			"and freeze again those that are to stay so")
	case frozen:
		e.wards.frozen[s.Key] = true
	default:
		delete(e.wards.frozen, s.Key)
	}
	if err := e.publishHealth(); err != nil {
		return nil, err
	}
	var names []string
	for i := range e.cfg.Services {
		if s := &e.cfg.Services[i]; e.wards.isFrozen(s.Key) {
			names = append(names, s.Name)
		}
	}
	return names, nil
}

// findService looks up a configured service by its name. The caller holds mu.
func (e *Engine) findService(name string) (*conf.Service, error) {
	missing := &api.NoSuchService{Service: name}
	for i := range e.cfg.Services {
		if e.cfg.Services[i].Name == name {
			return &e.cfg.Services[i], nil
		}
		missing.Legal = append(missing.Legal, e.cfg.Services[i].Name)
	}
	return nil, missing
}

// dropFrozen forgets that services are frozen which the configuration doesn't have any more. The
// caller holds mu.
func (e *Engine) dropFrozen(cfg *conf.Config) {
	for key := range e.wards.frozen {
		if !slices.ContainsFunc(cfg.Services, func(s conf.Service) bool { return s.Key == key }) {
			delete(e.wards.frozen, key)
		}
	}
}
