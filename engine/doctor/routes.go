package doctor

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"sluice/pipeline/service"
)

// checkRoutes checks that the kernel's routes reach every backend through a port.
func checkRoutes(b *Box) (all []Finding) {
	lost := make(map[string][]target) // by error
	defer func() { all = append(all, b.unroutable(lost)...) }()
	for _, t := range b.targets() {
		r, err := b.Route(t.address)
		switch port := b.portByIndex(r.Ifindex); {
		case err != nil && len(b.rulesFor(netip.Addr{}, t.address)) > 0: // checkRules reports it
		case err != nil:
			lost[err.Error()] = append(lost[err.Error()], t)
		case r.Local:
			all = append(all, found(Problem, "give the backend an address of another machine", "backend %s is an address of this box", t.who()).of(t.address))
		case port == nil:
			name := "an interface that no longer exists"
			if l := b.linkByIndex(r.Ifindex); l != nil {
				name = l.Name
			}
			all = append(all, found(Problem, fmt.Sprintf("add [[port]] name = %q, or a route by one of the ports", name),
				"backend %s is reached by %s, which is not a port: packets for it are dropped as no_route", t.who(), name).of(t.address))
		case t.mode == service.DR && r.Gateway.IsValid():
			all = append(all, found(Problem, "put the backend on the link of a port, or use mode tun",
				"backend %s is behind the gateway %s: mode dr reaches backends on the same layer 2 only", t.who(), r.Gateway).of(t.address))
		}
	}
	return all
}

// unroutable reports the backends to which there is no route, by the error and the route that they
// need. While a port is down its routes are gone, and checkPorts has reported it.
func (b *Box) unroutable(lost map[string][]target) (all []Finding) {
	for _, err := range slices.Sorted(maps.Keys(lost)) {
		if down := b.portsDown(); len(down) > 0 {
			all = append(all, found(Note, "nothing before port "+list(down)+" is up", "%d backends can't be reached while port %s is down: %s",
				len(lost[err]), list(down), list(names(lost[err]))))
			continue
		}
		byFix := make(map[string][]target)
		for _, t := range lost[err] {
			fix := b.missingRoute(t.address)
			byFix[fix] = append(byFix[fix], t)
		}
		for _, fix := range slices.Sorted(maps.Keys(byFix)) {
			ts := byFix[fix]
			var backends []netip.Addr
			for _, t := range ts {
				backends = append(backends, t.address)
			}
			cure := fix
			if cure == "" {
				cure = here("GATEWAY is the router that leads there", addRoute(whole(backends[0]).String(), "via GATEWAY"))
			}
			all = append(all, found(Problem, cure, "backend %s can't be reached: %s", list(names(ts)), err).of(backends...))
		}
	}
	return all
}

// missingRoute returns the fix for a backend without a route: that of the network of a port's
// address; "": it is on none of them.
func (b *Box) missingRoute(backend netip.Addr) string {
	for _, a := range b.Addresses {
		if l := b.Links[a.Link]; l != nil && b.portByIndex(l.Index) != nil && a.Prefix.Masked().Contains(backend) {
			return here("the network of "+a.Prefix.Addr().String()+" on "+a.Link, addRoute(a.Prefix.Masked().String(), "dev "+a.Link))
		}
	}
	return ""
}

// names returns the targets as findings name them.
func names(all []target) (out []string) {
	for _, t := range all {
		out = append(out, t.who())
	}
	return out
}

// portsDown returns the names of the ports that do not exist or are down.
func (b *Box) portsDown() (names []string) {
	for _, p := range b.Config.Ports {
		if l := b.Links[p.Name]; l == nil || !l.Up {
			names = append(names, p.Name)
		}
	}
	return names
}
