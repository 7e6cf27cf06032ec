package doctor

import "sluice/engine/api"

// checkBackends: what health checks have found.
func checkBackends(b *Box) (all []Finding) {
	for _, s := range b.Services {
		down := 0
		for _, backend := range s.Backends {
			if backend.State != api.StateDown {
				continue
			}
			down++
			all = append(all, found(Warning, "make its server answer the check of [service.health]; curl or nc from this box shows the same",
				"backend %s of service %s is down since %.0f s: %s", backend.Endpoint(), s.Name, backend.StateSinceS, or(backend.LastError, "its check fails")))
		}
		if down > 0 && down == len(s.Backends) {
			all = append(all, found(Problem, "see each backend's own line", "service %s has no backend that is up", s.Name))
		}
	}
	return all
}
