package top

import (
	"cmp"
	"slices"
	"strings"

	"sluice/cmd/sluice/text"
	"sluice/engine/api"
)

// row is one line of the list: a service, or one of its backends.
type row struct {
	id      api.Rated
	service *api.Service
	backend *api.Backend // nil: the line is the service's
}

// Degrees of trouble, the worst first: the order of the list.
const (
	dead     = iota // a service with no backend that takes new connections
	broken          // a backend that is down, or a service that has one
	draining        // the same with drain, or a service under pressure or a SYN flood
	fine
)

func backendTrouble(b *api.Backend) int {
	switch b.State {
	case api.StateUp, api.StateStandby:
		return fine
	case api.StateDrain:
		return draining
	}
	return broken
}

// usable returns how many backends take new connections.
func usable(s *api.Service) int { return api.CountBackends(*s).Usable() }

// acceptsNew reports whether a backend takes new connections; a protected one does although it is
// down.
func acceptsNew(b *api.Backend) bool { return b.State == api.StateUp || b.Protected }

func serviceTrouble(s *api.Service) int {
	worst := fine
	for i := range s.Backends {
		worst = min(worst, backendTrouble(&s.Backends[i]))
	}
	switch {
	case usable(s) == 0:
		return dead
	case s.Pressure != nil, s.FirstPackets != nil && s.FirstPackets.Flood:
		return min(worst, draining)
	}
	return worst
}

// rows returns the lines to show after filter and toggles, by trouble, then in the order of the
// file.
func (m *Model) rows() []row {
	services := make([]*api.Service, len(m.now.Services))
	for i := range m.now.Services {
		services[i] = &m.now.Services[i]
	}
	slices.SortStableFunc(services, func(a, b *api.Service) int { return cmp.Compare(serviceTrouble(a), serviceTrouble(b)) })
	var all []row
	for _, s := range services {
		if m.onlyTrouble && serviceTrouble(s) == fine {
			continue
		}
		whole := contains(m.filter.Value(), s.Name, s.Key())
		backends := m.backendRows(s, whole)
		if whole || len(backends) > 0 {
			all = append(all, row{api.Rated{Service: s.Key()}, s, nil})
			if !m.folded(s) || !whole {
				all = append(all, backends...)
			}
		}
	}
	return all
}

// backendRows returns the lines of a service's backends: all of them if whole, else those that
// match the filter.
func (m *Model) backendRows(s *api.Service, whole bool) (all []row) {
	key := s.Key()
	for i := range s.Backends {
		b := &s.Backends[i]
		if whole || contains(m.filter.Value(), b.Endpoint(), api.StateName(*b), api.Why(*b)) {
			all = append(all, row{api.Rated{Service: key, Backend: b.Endpoint()}, s, b})
		}
	}
	slices.SortStableFunc(all, func(a, b row) int { return cmp.Compare(backendTrouble(a.backend), backendTrouble(b.backend)) })
	return all
}

// folded reports whether a service's backends are hidden: as set by the user, else if there are
// many services and this one has no problem.
func (m *Model) folded(s *api.Service) bool {
	if told, ok := m.foldedByHand[s.Key()]; ok {
		return told
	}
	return len(m.now.Services) > manyServices && serviceTrouble(s) == fine
}

// contains reports whether one of the texts contains sought, ignoring case.
func contains(sought string, texts ...string) bool {
	sought = strings.ToLower(strings.TrimSpace(sought))
	return slices.ContainsFunc(texts, func(t string) bool { return strings.Contains(strings.ToLower(text.OneLine(t)), sought) })
}

// place finds the cursor's line after the list has changed: the same row, or else the row at the
// same position.
func (m *Model) place(rows []row) int {
	at := slices.IndexFunc(rows, func(r row) bool { return r.id == m.cursor })
	if at < 0 {
		at = max(0, min(m.cursorAt, len(rows)-1))
	}
	return at
}
