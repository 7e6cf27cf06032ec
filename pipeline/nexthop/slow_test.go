package nexthop

import (
	"net/netip"

	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/rewrite"
)

// slowTable is the obvious twin of Table: it keeps the lists and walks them at every lookup.
type slowTable struct {
	ports      []PortInfo
	routes     []Route
	neighbours []Neighbour
}

func (s *slowTable) lookup(dst netip.Addr) (rewrite.Link, counter.Reason, Hop, bool) {
	r := s.match(dst)
	if r == nil {
		return rewrite.Link{}, counter.NoRoute, Hop{}, false
	}
	leg := s.choose(r, dst)
	link, reason := s.try(leg, dst)
	if reason == counter.NoRoute || reason == counter.PortDown {
		return link, reason, Hop{}, false
	}
	hop := Hop{leg.Via, leg.Port, leg.VLAN}
	if !hop.Addr.IsValid() {
		hop.Addr = dst
	}
	return link, reason, hop, true
}

// match is the longest-prefix match as everybody knows it.
func (s *slowTable) match(dst netip.Addr) *Route {
	var best *Route
	for i := range s.routes {
		r := &s.routes[i]
		if !r.Prefix.Contains(dst) {
			continue
		}
		if best == nil || r.Prefix.Bits() > best.Prefix.Bits() ||
			r.Prefix.Bits() == best.Prefix.Bits() && r.Metric < best.Metric {
			best = r
		}
	}
	return best
}

// choose picks the leg for dst among the best legs of the route.
func (s *slowTable) choose(r *Route, dst netip.Addr) Leg {
	var byRank [3][]Leg
	for _, leg := range append([]Leg{{r.Via, r.Port, r.VLAN, r.MTU, r.Kind}}, r.Also...) {
		rank := 0
		if _, reason := s.try(leg, dst); reason == counter.NoNeighbour && leg.Via.IsValid() {
			rank = 1
		} else if reason == counter.NoRoute || reason == counter.PortDown {
			rank = 2
		}
		byRank[rank] = append(byRank[rank], leg)
	}
	for _, legs := range byRank {
		if len(legs) != 0 {
			return legs[memberOf(packet.AddrFrom(dst), uint32(len(legs)))]
		}
	}
	panic("a route has at least one leg")
}

func (s *slowTable) try(leg Leg, dst netip.Addr) (rewrite.Link, counter.Reason) {
	if leg.Kind == Blackhole {
		return rewrite.Link{}, counter.NoRoute
	}
	if leg.Kind == Foreign || int(leg.Port) >= len(s.ports) || !s.ports[leg.Port].Up {
		return rewrite.Link{}, counter.PortDown
	}
	port, target := s.ports[leg.Port], dst
	if leg.Via.IsValid() {
		target = leg.Via
	}
	link := rewrite.Link{SMAC: port.MAC, VLAN: leg.VLAN, MTU: port.MTU, Port: leg.Port}
	if leg.MTU != 0 {
		link.MTU = min(link.MTU, leg.MTU)
	}
	for i := len(s.neighbours) - 1; i >= 0; i-- {
		n := s.neighbours[i]
		if n.Addr == target && n.Port == leg.Port && n.VLAN == leg.VLAN {
			link.DMAC = n.MAC
			return link, counter.None
		}
	}
	return rewrite.Link{}, counter.NoNeighbour
}
