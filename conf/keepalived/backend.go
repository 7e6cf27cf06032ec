package keepalived

import (
	"reflect"
	"slices"
	"strconv"

	"sluice/conf"
	"sluice/conf/draft"
	"sluice/pipeline/service"
)

// endpoint reads the address and port behind real_server or sorry_server. The port is 0 if there is
// none.
func (v *server) endpoint(n *node) (key service.BackendKey, ok bool) {
	a, ok := address(n.value())
	ports := service.AnyPort
	if ok && len(n.words) > 2 {
		ports, ok = portOf(n.words[2])
	}
	if !ok {
		v.lost(n, "is no address and port")
		return key, false
	}
	return service.BackendKey{Address: a, Port: ports.First}, true
}

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
		case "inhibit_on_failure":
			v.inhibit(n)
			v.inhibited = append(v.inhibited, n)
		case "snmp_name":
			v.lost(n, "backends have no names")
		default:
			if _, ok := checkTypes[n.name()]; ok {
				checkers = append(checkers, n)
			} else if !defaults.read(v.reader, n) {
				v.notOurs(n)
			}
		}
	})
	v.service.Backends = append(v.service.Backends, b)
	v.check(n, checkers, defaults, key)
}

// check settles which of a real server's checks is used, and whether it is the service's.
func (v *server) check(n *node, checkers []*node, defaults checkDefaults, key service.BackendKey) {
	var mine *check
	for _, at := range checkers {
		switch {
		case mine != nil:
			v.lost(at, "Sluice has one check per service, and that is the "+mine.node.name()+" at line "+strconv.Itoa(mine.node.at.Line))
		default:
			mine = v.checker(at, defaults, key)
		}
	}
	switch {
	case v.health == nil && mine != nil:
		v.health = mine
		if len(v.service.Backends) > 1 {
			v.Note(mine.node.at, "%s: now checks all backends of the service, those too that had no check before it", mine.node.name())
		}
	case mine == nil && v.health != nil:
		v.Note(n.at, "%s: had no check, and is checked like the others now", n.text())
	case mine != nil && !reflect.DeepEqual(mine.Health, v.health.Health):
		v.lost(mine.node, "differs from the check of the service's first real server, line "+strconv.Itoa(v.health.node.at.Line)+", which Sluice uses for all of them")
	}
}

// emit adds a service for each address.
func (v *server) emit(sorry *node) {
	if v.failover {
		draft.KeepHighest(&v.service)
	}
	if some := len(v.inhibited); some > 0 && some < len(v.service.Backends) {
		v.lost(v.inhibited[0], "holds for all backends of the service now (on_down)")
	}
	for _, f := range v.fronts {
		s := v.service
		s.Key.Address, s.Key.Ports = f.address, f.ports
		if f.name != "" {
			s.Name = f.name
		}
		s.Backends = slices.Clone(s.Backends)
		for i := range s.Backends {
			v.fit(&s.Backends[i].Backend, f.ports, s.Backends[i].From)
		}
		v.applyHealth(&s)
		v.applySorry(&s, sorry)
		v.Add(s)
	}
}

// fit gives a backend the port that Sluice wants for its mode.
func (v *server) fit(b *conf.Backend, front service.Ports, at draft.Place) {
	if why := draft.FitPort(b, front); why != "" {
		v.Note(at, "%s: %s", b.Key.Address, why)
	}
}

// applyHealth gives a service its check, unless there is no port to check.
func (v *server) applyHealth(s *draft.Service) {
	if v.health == nil {
		return
	}
	portless := slices.ContainsFunc(s.Backends, func(b draft.Backend) bool { return b.Key.Port == 0 })
	if portless && v.health.Port == 0 && v.health.Type != conf.HealthPing {
		v.lost(v.health.node, "the service is on any port, so that a check needs connect_port: there is none now")
		return
	}
	s.Health = v.health.Health
}
