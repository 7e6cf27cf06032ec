package conf

import (
	"cmp"
	"slices"

	"sluice/pipeline/service"
)

// backends reads the [[service.backend]] tables of a service.
func (t table) backends(s *Service) []Backend {
	tables := t.tables("backend")
	if len(tables) > maxBackends {
		t.fail(tables[maxBackends].at, "is one backend too many; at most %d in a service are legal", maxBackends)
		tables = tables[:maxBackends]
	}
	all := make([]Backend, 0, len(tables))
	lines := make(map[service.BackendKey]int, len(tables)) // of the keys seen
	for _, bt := range tables {
		b := bt.backend(s)
		if line, taken := lines[b.Key]; taken && b.Key.Address.IsValid() {
			bt.fail(bt.at, "%s is a backend of this service already, see line %d; raise weight there instead", b.Key, line)
		}
		lines[b.Key] = b.Line
		all = append(all, b)
	}
	return all
}

// backend reads one of them.
func (t table) backend(s *Service) Backend { return t.server(s, t.integer("weight")) }

// sorry reads [service.sorry].
func (t table) sorry(s *Service) *Backend {
	if !t.has("sorry") {
		return nil
	}
	st := t.table("sorry")
	b := st.server(s, 1)
	same := func(other Backend) bool { return other.Key == b.Key && b.Key.Address.IsValid() }
	if i := slices.IndexFunc(s.Backends, same); i >= 0 {
		st.fail(st.at.key("address"), "%s is a backend of this service, see line %d; a sorry server is for when none of them is up",
			b.Key, s.Backends[i].Line)
	}
	return &b
}

// serverAt is where Servers()[i] of the service at a place stands.
func (s *Service) serverAt(at *place, i int) *place {
	if i == len(s.Backends) {
		return at.key("sorry")
	}
	return at.key("backend").item(i)
}

// server reads what a backend and a sorry server have in common. If the address or the port is
// wrong, the Key is zero.
func (t table) server(s *Service, weight int) Backend {
	b := Backend{
		Weight: weight,
		Mode:   cmp.Or(legal(service.ParseMode, t.word("mode")), s.Mode),
		Line:   t.at.line,
	}
	address := t.address("address")
	port, ok := t.backendPort(s.Key.Ports, b.Mode)
	if !address.IsValid() || !ok {
		return b
	}
	b.Key = service.BackendKey{Address: address, Port: port}
	if front := s.Key.Address; front.IsValid() && b.Mode != service.TUN && front.Is4() != address.Is4() {
		t.fail(t.at.key("address"), "%s is %s and the service is %s; mode %s needs one family, mode tun may mix them",
			address, family(address), family(front), b.Mode)
	}
	return b
}

// backendPort gives the port that packets for a backend have, where 0 keeps the client's: the
// service's unless nat or fullnat change it. front is the zero Ports if the service's port is
// wrong.
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
		t.fail(at, "%s differs from the service's port %s; mode %s does not change ports; legal: %s, or no port here",
			own, front, mode, front)
		return 0, false
	case !own.Single():
		t.fail(at, "%s is not one port; legal: a port from 1 to 65535, or no port here for the one that the client asked for", own)
		return 0, false
	}
	if own.Single() {
		return own.First, true
	}
	return 0, true
}
