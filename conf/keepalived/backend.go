package keepalived

import (
	"reflect"
	"slices"
	"strconv"

	"sluice/conf"
	"sluice/conf/draft"
	"sluice/pipeline/service"
)

// endpoint parses the address and port after real_server or sorry_server. The port is 0 if it is
// missing.
func (v *server) endpoint(n *node) (key service.BackendKey, ok bool) {
	a, ok := address(n.value())
	ports := service.AnyPort
	if ok && len(n.words) > 2 {
		ports, ok = portOf(n.words[2])
	}
	if !ok {
		v.lost(n, "must be an address and a port")
		return key, false
	}
	return service.BackendKey{Address: a, Port: ports.First}, true
}

// maxThreshold is the largest max_connections.
const maxThreshold = 1 << 27

// backend reads a real_server.
func (v *server) backend(n *node) {
	key, ok := v.endpoint(n)
	if !ok {
		return
	}
	b := draft.Backend{Backend: conf.Backend{Key: key, Weight: 1, Mode: v.service.Mode}, From: n.at}
	defaults := v.checks
	var checkers []*node
	v.each(n, func(n *node) {
		switch n.name() {
		case "weight":
			b.Weight = v.integer(n, 0, 65535, 1)
		case "lvs_method", "lb_kind":
			b.Mode = v.mode(n, v.service.Mode)
		case "uthreshold":
			b.MaxConnections = v.integer(n, 0, maxThreshold, 0)
		case "lthreshold":
			b.MinConnections = v.integer(n, 0, maxThreshold, 0)
		case "inhibit_on_failure":
			v.inhibit(n)
			v.inhibited = append(v.inhibited, n)
		case "snmp_name":
			v.lost(n, "names of backends are not supported")
		default:
			if _, ok := checkTypes[n.name()]; ok {
				checkers = append(checkers, n)
			} else if !defaults.read(v.reader, n) {
				v.notOurs(n)
			}
		}
	})
	if b.MaxConnections == 0 || b.MinConnections > b.MaxConnections {
		b.MinConnections = 0 // it has no effect in IPVS
	}
	v.service.Backends = append(v.service.Backends, b)
	v.check(n, checkers, defaults, key)
}

// check chooses one of a real server's checks, and decides whether it becomes the service's. A
// check that Sluice has goes before a program, wherever they stand.
func (v *server) check(n *node, checkers []*node, defaults checkDefaults, key service.BackendKey) {
	slices.SortStableFunc(checkers, func(a, b *node) int { return foreign(a) - foreign(b) })
	var mine *check
	for _, at := range checkers {
		switch {
		case mine == nil:
			mine = v.checker(at, defaults, key)
		case foreign(at) != 0:
			v.lost(at, noPrograms+": what remains is the "+mine.node.name()+" at line "+strconv.Itoa(mine.node.at.Line))
		default:
			v.lost(at, "Sluice has one check per service: the "+mine.node.name()+" at line "+strconv.Itoa(mine.node.at.Line))
		}
	}
	switch {
	case v.health == nil && mine != nil:
		v.health = mine
		if mine.pace != "" {
			v.Note(mine.node.at, "%s: %s", mine.node.name(), mine.pace)
		}
		if len(v.service.Backends) > 1 {
			v.Note(mine.node.at, "%s: now checks all backends of the service, including those before it without a check", mine.node.name())
		}
	case mine == nil && v.health != nil:
		v.Note(n.at, "%s: had no check, and is now checked like the others", n.text())
	case mine != nil && !reflect.DeepEqual(mine.Health, v.health.Health):
		v.lost(mine.node, "differs from the check of the service's first real server, line "+strconv.Itoa(v.health.node.at.Line)+", which Sluice uses for all of them")
	}
}

// foreign returns 1 for a check that is a program or else unlike any of Sluice's, else 0.
func foreign(n *node) int {
	if checkTypes[n.name()] == "" {
		return 1
	}
	return 0
}

// emit adds a service for each address.
func (v *server) emit(sorry *node) {
	if v.failover {
		draft.KeepHighest(&v.service)
	}
	if some := len(v.inhibited); some > 0 && some < len(v.service.Backends) {
		v.lost(v.inhibited[0], "now applies to all backends of the service (on_down)")
	}
	for _, f := range v.fronts {
		if v.Full() {
			return
		}
		s := v.service
		s.Key.Address, s.Key.Ports = f.address, f.ports
		if f.name != "" {
			s.Name = f.name
		}
		if s.Persistence == 0 && f.ports == service.AnyPort {
			s.Persistence = defaultPersistence
			v.Note(v.node.at, "%s: a service of any port has persistence in keepalived: persistence = %s", v.node.text(), s.Persistence)
		}
		s.Backends = slices.Clone(s.Backends)
		for i := range s.Backends {
			v.fit(&s.Backends[i].Backend, f.ports, s.Backends[i].From)
		}
		v.applySources(&s)
		v.applyHealth(&s)
		v.applySorry(&s, sorry)
		v.Add(s)
	}
}

// fit sets a backend's port as Sluice requires for its mode.
func (v *server) fit(b *conf.Backend, front service.Ports, at draft.Place) {
	if why := draft.FitPort(b, front); why != "" {
		v.Note(at, "%s: %s", b.Key.Address, why)
	}
}

// applyHealth sets a service's check, unless there is no port to check.
func (v *server) applyHealth(s *draft.Service) {
	if v.health == nil {
		return
	}
	portless := slices.ContainsFunc(s.Backends, func(b draft.Backend) bool { return b.Key.Port == 0 })
	if portless && v.health.Port == 0 && v.health.Type != conf.HealthPing {
		v.lost(v.health.node, "the service is on any port, so a check needs connect_port: there is no check")
		return
	}
	s.Health = v.health.Health
}
