package api

import (
	"fmt"
	"strings"
)

// Why returns a text about a backend's state: the reason and other details, or "".
func Why(b Backend) string {
	why := b.Reason
	if b.LastError != "" && !strings.Contains(why, b.LastError) {
		if why != "" {
			why += "; "
		}
		why += "last check: " + b.LastError
	}
	return why
}

// StateName returns the name of a backend's state as every command and the page show it: the state,
// "down (in use)" for a backend that is down and protected, and "up (25%)" for one in slow start,
// with the portion of its weight that it has. The page reads it in answers of the API.
func StateName(b Backend) string {
	switch {
	case b.Protected:
		return b.State + " (in use)"
	case b.SlowStart > 0:
		return fmt.Sprintf("%s (%.0f%%)", b.State, 100*b.SlowStart)
	}
	return b.State
}

// named returns a backend with the name of its state.
func named(b Backend) Backend {
	b.StateName = StateName(b)
	return b
}

// allNamed returns a copy of services, never nil, with the names of their states and of their
// backends'. The services still belong to the Control that listed them.
func allNamed(services []Service) []Service {
	all := make([]Service, len(services))
	for i, s := range services {
		backends := make([]Backend, len(s.Backends))
		for j, b := range s.Backends {
			backends[j] = named(b)
		}
		if s.Backends = backends; s.Sorry != nil {
			sorry := named(*s.Sorry)
			s.Sorry = &sorry
		}
		s.States = CountBackends(s)
		s.StateName, s.StateNote, s.RefusedNote = s.States.Fraction(), ServiceNote(s), RefusedNote(s)
		all[i] = s
	}
	return all
}
