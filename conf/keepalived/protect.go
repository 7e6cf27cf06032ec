package keepalived

import "sluice/conf/draft"

// inhibit reads inhibit_on_failure.
func (v *server) inhibit(n *node) {
	if isOn(n) {
		v.lost(n, "connections of a backend that is down")
	}
}

// applySorry gives a service its sorry server.
func (v *server) applySorry(_ *draft.Service, n *node) {
	if n != nil {
		v.lost(n, "Sluice has no sorry server")
	}
}
