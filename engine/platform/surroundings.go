package platform

import (
	"net/netip"
	"slices"

	"sluice/engine/route"
	"sluice/engine/steer"
)

// Stations returns what frames to this host are addressed to at its ports.
func Stations(s *route.Snapshot) (all []steer.Station) {
	for i := range s.Ports {
		for _, of := range s.Ports[i].Stations {
			all = append(all, steer.Station{Ifindex: s.Ports[i].Ifindex, MAC: of.MAC, VLAN: of.VLAN})
		}
	}
	return all
}

// Networks returns the networks that the ports are in, ascending.
func Networks(s *route.Snapshot) (all []netip.Prefix) {
	for i := range s.Ports {
		for _, p := range s.Ports[i].Prefixes {
			all = append(all, p.Masked())
		}
	}
	slices.SortFunc(all, netip.Prefix.Compare)
	return slices.Compact(all)
}
