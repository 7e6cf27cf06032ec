package doctor

import (
	"strings"

	"sluice/engine/api"
)

// checkBackends reports the backends that are down.
func checkBackends(b *Box) (all []Finding) {
	for _, s := range b.Services {
		down := 0
		for _, backend := range s.Backends {
			if backend.State != api.StateDown {
				continue
			}
			down++
			all = append(all, found(Warning, repair(s, backend),
				"backend %s of service %s has been down for %.0f s: %s", backend.Endpoint(), s.Name, backend.StateSinceS, or(backend.LastError, or(backend.Reason, "its check fails"))))
		}
		if down > 0 && down == len(s.Backends) {
			all = append(all, found(Problem, "see the finding about each backend", "service %s has no backend that is up", s.Name))
		}
	}
	return all
}

// repair returns the fix for a backend that is down. A check of tun or dr takes the path of the
// clients' packets, so asking the backend's own address shows nothing.
func repair(s api.Service, b api.Backend) string {
	switch {
	case b.LastError == "" && strings.HasPrefix(b.Reason, "no "):
		return "see the findings about routes and neighbours"
	case strings.Contains(b.LastError, " by tun to "):
		return "on the backend: " + s.Address + " on lo, a server that answers there, and a tunnel interface that decapsulates, with rp_filter 0"
	case strings.Contains(b.LastError, " by dr to "):
		return "on the backend: " + s.Address + " on lo, and a server that answers there"
	}
	return "make its server answer the check of [service.health]; test it from this box with curl or nc"
}
