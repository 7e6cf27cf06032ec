package keepalived

import (
	"net/netip"
	"slices"
	"strconv"

	"sluice/conf/draft"
	"sluice/pipeline/service"
)

// maxLocal is how many addresses Sluice can send from, in all services.
const maxLocal = 256

// localGroup is a local_address_group of DPVS: addresses that full NAT sends from.
type localGroup struct {
	node      *node
	addresses []netip.Addr
	used      bool
}

// localGroup reads a local_address_group. An entry is an address or a range, and possibly the
// interface that has it.
func (r *reader) localGroup(n *node) {
	g := &localGroup{node: n}
	if old := r.local[n.value()]; old != nil {
		r.lost(n, "a group of this name was at line "+strconv.Itoa(old.node.at.Line))
		return
	}
	r.local[n.value()] = g
	r.each(n, func(n *node) {
		addresses, why := addressRange(n.name())
		if why != "" {
			r.lost(n, why)
			return
		}
		if len(g.addresses)+len(addresses) > maxLocal {
			r.lost(n, "Sluice sends from at most "+strconv.Itoa(maxLocal)+" addresses")
			return
		}
		for _, a := range addresses {
			if !slices.Contains(g.addresses, a) {
				g.addresses = append(g.addresses, a)
			}
		}
	})
}

// applySources sets the addresses that a service sends from, those of its family, if one of its
// servers has full NAT.
func (v *server) applySources(s *draft.Service) {
	fullNAT := slices.ContainsFunc(s.Backends, func(b draft.Backend) bool { return b.Mode == service.FullNAT })
	var g *localGroup
	if v.local != nil {
		g = v.reader.local[v.local.value()]
	}
	switch {
	case !fullNAT && v.local != nil:
		v.lost(v.local, "only mode fullnat (FNAT) sends from local addresses")
	case fullNAT && v.local == nil:
		v.Note(v.node.at, "%s: FNAT has no laddr_group_name: the addresses to send from (source) are missing", v.node.text())
	case fullNAT && g == nil:
		v.lost(v.local, "the local_address_group does not exist")
	case fullNAT:
		g.used = true
		for _, a := range g.addresses {
			if a.Is4() == s.Key.Address.Is4() {
				s.Source = append(s.Source, a)
			}
		}
	}
}
