package doctor

import (
	"fmt"
	"net/netip"
	"strings"

	"sluice/engine/api"
	"sluice/pipeline/service"
)

// checkBackends reports the backends that are down. It is a problem if no backend of a service is
// up, unless other checks have reported why.
func checkBackends(b *Box) (all []Finding) {
	for _, s := range b.Services {
		var down []api.Backend
		told := 0
		for _, backend := range s.Backends {
			if backend.State == api.StateDown {
				down = append(down, backend)
				if b.told[address(backend.Address)] {
					told++
				}
			}
		}
		none := len(down) > 0 && len(down) == len(s.Backends)
		only := none && len(down) == 1 && told == 0
		for _, backend := range down {
			severity, what := Warning, ""
			if only {
				severity, what = Problem, fmt.Sprintf("service %s has no backend that is up: ", s.Name)
			}
			all = append(all, found(severity, repair(s, backend), "%sbackend %s of service %s has been down for %.0f s: %s",
				what, backend.Endpoint(), s.Name, backend.StateSinceS, or(backend.LastError, or(backend.Reason, "its check fails"))).of(address(backend.Address)))
		}
		if none && !only {
			severity := Problem
			if told == len(down) {
				severity = Warning
			}
			all = append(all, found(severity, "see the finding about each backend", "service %s has no backend that is up", s.Name))
		}
	}
	return all
}

func address(text string) netip.Addr {
	a, _ := netip.ParseAddr(text)
	return a
}

// repair returns the fix for a backend that is down. A check of tun or dr takes the path of the
// clients' packets, so asking the backend's own address shows nothing.
func repair(s api.Service, b api.Backend) string {
	host, vip := address(b.Address), address(s.Address)
	mode, onPath := service.TUN, strings.Contains(b.LastError, " by tun to ")
	if strings.Contains(b.LastError, " by dr to ") {
		mode, onPath = service.DR, true
	}
	refused := strings.Contains(b.LastError, "connection refused")
	switch {
	case b.LastError == "" && strings.HasPrefix(b.Reason, "no "):
		return "see the findings about routes and neighbours"
	case refused && onPath:
		return fmt.Sprintf("start the server of %s on %s, and let it listen at %s", s.Name, host, vip)
	case refused:
		return fmt.Sprintf("start the server of %s on %s, and let it listen at %s", s.Name, host, b.Endpoint())
	case onPath:
		return there(host, needsOfPath(mode, vip), holdVIP(vip)...)
	}
	return "make its server answer the check of [service.health]; test it from this box with curl or nc"
}
