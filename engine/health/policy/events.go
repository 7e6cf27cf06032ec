package policy

import (
	"time"

	"sluice/pipeline/service"
)

// EventKind is what an Event reports.
type EventKind int

// The kinds of events.
const (
	StateChanged EventKind = iota // a backend has another state
	AlarmRaised
	AlarmEnded
)

// Event is a change between two states of the machine, for the log.
type Event struct {
	Kind    EventKind
	Service string             // name; "": the whole daemon
	Backend service.BackendKey // StateChanged only
	From    BackendState       // StateChanged only, likewise To
	To      BackendState
	// Protected: To is Down, and the backend takes new connections
	Protected bool
	Alarm     Alarm         // AlarmRaised and AlarmEnded only
	After     time.Duration // how long the former state or the alarm lasted; 0 for AlarmRaised
}

// events returns what changed from prev, which may be nil.
func (s *State) events(prev *State) []Event {
	all := make([]int, len(s.services))
	for i := range all {
		all[i] = i
	}
	out := s.eventsOf(prev, all)
	if prev == nil {
		return out
	}
	for i, svc := range prev.services {
		if _, still := s.config.service[prev.config.Services[i].Key]; !still {
			out = s.alarmEvents(out, prev.config.Services[i].Name, svc.alarms, nil)
		}
	}
	return out
}

// eventsOf returns what changed in the services at the given places, and in the whole daemon.
func (s *State) eventsOf(prev *State, places []int) (out []Event) {
	for _, i := range places {
		svc := &s.config.Services[i]
		before, _ := prev.serviceState(svc.Key)
		for j := range s.services[i].backends {
			b := &s.services[i].backends[j]
			if was := before.backend(prev, b.ID); was != nil && was.State != b.State {
				out = append(out, Event{
					Kind: StateChanged, Service: svc.Name, Backend: b.ID.Backend, From: was.BackendState, To: b.BackendState, Protected: b.Protected != "",
					After: b.Since.Sub(was.Since),
				})
			}
		}
	}
	for _, i := range places {
		before, _ := prev.serviceState(s.config.Services[i].Key)
		out = s.alarmEvents(out, s.config.Services[i].Name, before.alarms, s.services[i].alarms)
	}
	var before []Alarm
	if prev != nil {
		before = prev.alarms
	}
	return s.alarmEvents(out, "", before, s.alarms)
}

// alarmEvents appends the events between two lists of alarms.
func (s *State) alarmEvents(out []Event, name string, before, now []Alarm) []Event {
	for _, a := range now {
		if find(before, a.Kind) == nil {
			out = append(out, Event{Kind: AlarmRaised, Service: name, Alarm: a})
		}
	}
	for _, a := range before {
		if find(now, a.Kind) == nil {
			out = append(out, Event{Kind: AlarmEnded, Service: name, Alarm: a, After: s.now.Sub(a.Since)})
		}
	}
	return out
}
