package keepalived

import (
	"sluice/conf"
	"sluice/conf/draft"
)

// inhibit reads inhibit_on_failure: keepalived leaves a failing server in IPVS's table with weight
// 0, so that its connections continue.
func (v *server) inhibit(n *node) {
	if isOn(n) {
		v.service.OnDown = conf.OnDownKeep
	}
}

// applySorry sets a service's sorry server. keepalived has no minimum of servers that stay in use
// whatever their checks report; with one, Sluice would never use the sorry server.
func (v *server) applySorry(s *draft.Service, n *node) {
	if n == nil {
		return
	}
	key, ok := v.endpoint(n)
	if !ok {
		return
	}
	b := conf.Backend{Key: key, Weight: 1, Mode: s.Mode}
	if v.sorryMethod != nil {
		b.Mode = v.mode(v.sorryMethod, s.Mode)
	}
	v.fit(&b, s.Key.Ports, n.at)
	s.Sorry = &b
	if s.Health.Type == conf.HealthNone {
		v.lost(n, "is carried over, but takes no connections: without checks no backend is ever down")
		return
	}
	s.Health.MinHealthy = 0
}
