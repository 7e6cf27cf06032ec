package conf

import (
	"cmp"
	"slices"

	"sluice/pipeline/service"
)

// backends reads the [[service.backend]] tables of a service.
func (t table) backends(s *Service) []Backend {
	tables := t.tables("backend")
	if len(tables) > maxServiceBackends {
		t.fail(tables[maxServiceBackends].at, "is one backend too many; allowed: at most %d in a service", maxServiceBackends)
		tables = tables[:maxServiceBackends]
	}
	all := make([]Backend, 0, len(tables))
	lines := make(map[service.BackendKey]int, len(tables)) // lines of the keys seen
	for _, bt := range tables {
		b := bt.backend(s)
		if line, taken := lines[b.Key]; taken && b.Key.Address.IsValid() {
			bt.fail(bt.at, "%s is already a backend of this service, see line %d; raise its weight instead", b.Key, line)
		}
		lines[b.Key] = b.Line
		all = append(all, b)
	}
	return all
}

// backend reads one [[service.backend]] table.
func (t table) backend(s *Service) Backend {
	b := t.server(s, t.integer("weight"))
	b.MaxConnections, b.MinConnections = t.integer("max_connections"), t.integer("min_connections")
	at := t.at.key("min_connections")
	switch {
	case b.MinConnections == 0:
	case !t.has("max_connections"):
		t.fail(at, "has no effect without max_connections; write that, too, or remove the key")
	case b.MaxConnections != 0 && b.MinConnections > b.MaxConnections:
		t.fail(at, "%d is more than max_connections, %d; allowed: at most that", b.MinConnections, b.MaxConnections)
	}
	return b
}

// sorry reads [service.sorry].
func (t table) sorry(s *Service) *Backend {
	if !t.has("sorry") {
		return nil
	}
	st := t.table("sorry")
	b := st.server(s, 1)
	same := func(other Backend) bool { return other.Key == b.Key && b.Key.Address.IsValid() }
	if i := slices.IndexFunc(s.Backends, same); i >= 0 {
		st.fail(st.at.key("address"), "%s is a backend of this service, see line %d; a sorry server must be another server",
			b.Key, s.Backends[i].Line)
	}
	return &b
}

// serverAt returns the place of Servers()[i] of the service at a place.
func (s *Service) serverAt(at *place, i int) *place {
	if i == len(s.Backends) {
		return at.key("sorry")
	}
	return at.key("backend").item(i)
}

// server reads the common part of a backend and a sorry server. If the address or the port is
// invalid, the Key is zero.
func (t table) server(s *Service, weight int) Backend {
	b := Backend{
		Weight: weight,
		Mode:   cmp.Or(allowedWord(service.ParseMode, t.word("mode")), s.Mode),
		Line:   t.at.line,
	}
	address := t.address("address")
	port, ok := t.backendPort(s.Key.Ports, b.Mode)
	if !address.IsValid() || !ok {
		return b
	}
	b.Key = service.BackendKey{Address: address, Port: port}
	if front := s.Key.Address; front.IsValid() && b.Mode != service.TUN && front.Is4() != address.Is4() {
		t.fail(t.at.key("address"), "%s is %s and the service is %s; mode %s requires one family, mode tun can mix them",
			address, family(address), family(front), b.Mode)
	}
	return b
}

// backendPort returns the destination port of packets to a backend; 0 leaves the client's. It is
// the service's unless nat or fullnat change it. front is the zero Ports if the service's port is
// invalid.
func (t table) backendPort(front service.Ports, mode service.Mode) (port uint16, ok bool) {
	own := t.ports("port")
	if t.has("port") && own == (service.Ports{}) {
		return 0, false
	}
	at := t.at.key("port")
	switch {
	case front == (service.Ports{}):
		return own.First, true
	case own == (service.Ports{}) || own == front:
		own = front
	case mode == service.TUN || mode == service.DR:
		t.fail(at, "%s differs from the service's port %s; mode %s does not change ports; allowed: %s, or no port here",
			own, front, mode, front)
		return 0, false
	case !own.Single():
		t.fail(at, "%s is not a single port; allowed: a port from 1 to 65535, or no port here to use the client's destination port", own)
		return 0, false
	}
	if own.Single() {
		return own.First, true
	}
	return 0, true
}
