package doctor

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"sluice/conf"
	"sluice/engine/api"
	"sluice/pipeline/service"
)

// checkHanging reports connections that wait for the SYN-ACK of a backend that is up: it is lost on
// the way back, or never sent.
func checkHanging(b *Box) (all []Finding) {
	if b.Config == nil {
		return nil
	}
	before, told := b.before(), make(map[string]bool)
	hanging := b.hanging(before)
	for _, name := range slices.Sorted(maps.Keys(hanging)) {
		c := hanging[name][0]
		client, _ := netip.ParseAddrPort(c.Client)
		backend, _ := netip.ParseAddrPort(c.Backend)
		vip, _ := netip.ParseAddrPort(c.Virtual)
		if b.told[backend.Addr()] || b.stateOf(c) == api.StateDown || slices.ContainsFunc(b.Passing, func(p Passing) bool { return p.VIP == vip.Addr() && p.Err != nil }) {
			continue // reported by the cause
		}
		if mode, _ := service.ParseMode(c.Mode); !mode.RepliesThroughUs() && b.opens(c, before) {
			all = append(all, found(Note, "look at the clients' side: firewalls, routes, or SYNs with forged addresses",
				"%d connections to backend %s of service %s wait for the end of their handshake, one of them from %s, while others are opened", len(hanging[name]), c.Backend, c.Service, client.Addr()))
			continue
		}
		fix := b.answers(c.Service, backend, vip.Addr(), client.Addr())
		if told[fix] {
			continue // the same for another service
		}
		told[fix] = true
		all = append(all, found(Problem, fix, "%d connections to backend %s of service %s wait for its SYN-ACK, one of them from %s: it does not come back to the client",
			len(hanging[name]), c.Backend, c.Service, client.Addr()).of(backend.Addr()))
	}
	return all
}

// stateOf returns the state of a connection's backend.
func (b *Box) stateOf(c api.Conn) string {
	for _, s := range b.Services {
		for _, be := range s.Backends {
			if s.Name == c.Service && isBackend(&be, c.Backend) {
				return be.State
			}
		}
	}
	return ""
}

// isBackend reports whether a connection's backend is that of a service.
func isBackend(b *api.Backend, endpoint string) bool {
	at, err := netip.ParseAddrPort(endpoint)
	return b.Endpoint() == endpoint || err == nil && b.Port.First == 0 && at.Addr().String() == b.Address
}

// answers returns what a backend needs so that its SYN-ACK reaches the client.
func (b *Box) answers(name string, backend netip.AddrPort, vip, client netip.Addr) string {
	i := slices.IndexFunc(b.Config.Services, func(s conf.Service) bool { return s.Name == name })
	if i < 0 {
		return "reload: the service is not in this file"
	}
	s := &b.Config.Services[i]
	j := slices.IndexFunc(s.Backends, func(be conf.Backend) bool { return be.Key.Address == backend.Addr() })
	if j < 0 {
		return "see what the backend sends: tcpdump there"
	}
	be, host := &s.Backends[j], backend.Addr()
	firewall := fmt.Sprintf("no other route there may lead to %s elsewhere, and its firewall must pass port %d", client, backend.Port())
	switch be.Mode {
	case service.NAT:
		if command, ok := b.wayBack(host, "default"); ok {
			return there(host, firewall, command)
		}
		return there(host, "GATEWAY is the router that leads to this box; "+firewall, addRoute(everywhere(client), "via GATEWAY"))
	case service.FullNAT:
		var commands []string
		for _, source := range s.Source {
			if command, ok := b.wayBack(host, whole(source).String()); ok && source.Is4() == host.Is4() {
				commands = append(commands, command)
			}
		}
		note := fmt.Sprintf("its replies to `source` must lead here, and its firewall must pass port %d", backend.Port())
		if len(commands) == 0 {
			return there(host, note, "ip route get "+s.Source[0].String())
		}
		return there(host, note, commands...)
	}
	return b.answersOneWay(s, be, vip, client)
}

// answersOneWay is answers for tun and dr. A check that takes the path of clients' packets and
// succeeds leaves only the way back to the clients.
func (b *Box) answersOneWay(s *conf.Service, be *conf.Backend, vip, client netip.Addr) string {
	host, note := be.Key.Address, "or via another router that leads to the clients"
	back, ok := b.wayBack(host, everywhere(client))
	if !ok || client.Is4() != host.Is4() || b.forwarding(client.Is4()) == 0 {
		back, note = addRoute(whole(client).String(), "via GATEWAY"), "GATEWAY is the router that leads to the clients"
	}
	if s.ChecksPath(be) {
		return there(host, note, back)
	}
	return there(host, note+"; "+needsOfPath(be.Mode, vip), append(holdVIP(vip), back)...)
}

// everywhere returns the destination of a default route.
func everywhere(a netip.Addr) string {
	if a.Is4() {
		return "default"
	}
	return "::/0"
}
