package doctor

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"sluice/engine/api"
	"sluice/pipeline/service"
)

// checkHanging reports connections that wait for the SYN-ACK of a backend that is up: it is lost on
// the way back, or never sent.
func checkHanging(b *Box) (all []Finding) {
	if b.Config == nil {
		return nil
	}
	hanging := b.hanging()
	for _, name := range slices.Sorted(maps.Keys(hanging)) {
		c := hanging[name][0]
		client, _ := netip.ParseAddrPort(c.Client)
		backend, _ := netip.ParseAddrPort(c.Backend)
		vip, _ := netip.ParseAddrPort(c.Virtual)
		if b.stateOf(c) == api.StateDown || slices.ContainsFunc(b.Passing, func(p Passing) bool { return p.VIP == vip.Addr() && p.Err != nil }) {
			continue // reported by the cause
		}
		fix := ""
		switch mode, _ := service.ParseMode(c.Mode); mode {
		case service.NAT:
			fix = fmt.Sprintf("on %s: ip route replace default via %s, and no other route to %s; and let its firewall pass port %d", backend.Addr(), or(b.ownTowards(backend.Addr()), "this box"), client.Addr(), backend.Port())
		case service.FullNAT:
			fix = fmt.Sprintf("on %s: a route to the service's `source` addresses that leads here, and a firewall that passes port %d", backend.Addr(), backend.Port())
		default:
			fix = fmt.Sprintf("on %s: %s on lo, a server that listens there, and a route to %s", backend.Addr(), vip.Addr(), client.Addr())
			if mode == service.TUN {
				fix += "; a tunnel interface that decapsulates, with rp_filter 0"
			}
		}
		all = append(all, found(Problem, fix, "%d connections to backend %s of service %s wait for its SYN-ACK, one of them from %s: it does not come back to the client",
			len(hanging[name]), c.Backend, c.Service, client.Addr()))
	}
	return all
}

// stateOf returns the state of a connection's backend.
func (b *Box) stateOf(c api.Conn) string {
	for _, s := range b.Services {
		for _, be := range s.Backends {
			if s.Name == c.Service && (be.Endpoint() == c.Backend || strings.HasPrefix(c.Backend, be.Address+":") && be.Port.First == 0) {
				return be.State
			}
		}
	}
	return ""
}

// ownTowards returns this machine's address on the network of another one, or "".
func (b *Box) ownTowards(to netip.Addr) string {
	for _, a := range b.Addresses {
		if a.Prefix.Masked().Contains(to) && !a.Prefix.IsSingleIP() {
			return a.Prefix.Addr().String()
		}
	}
	return ""
}
