package doctor

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"sluice/pipeline/service"
)

// checkRoutes checks that the kernel's routes reach every backend through a port.
func checkRoutes(b *Box) (all []Finding) {
	lost := make(map[string][]string) // by error: backends
	defer func() { all = append(all, b.unroutable(lost)...) }()
	for _, t := range b.targets() {
		r, err := b.Route(t.address)
		switch port := b.portByIndex(r.Ifindex); {
		case err != nil && len(b.rulesFor(netip.Addr{}, t.address)) > 0: // checkRules reports it
		case err != nil:
			lost[err.Error()] = append(lost[err.Error()], t.who())
		case r.Local:
			all = append(all, found(Problem, "give the backend an address of another machine", "backend %s is an address of this box", t.who()))
		case port == nil:
			name := "an interface that no longer exists"
			if l := b.linkByIndex(r.Ifindex); l != nil {
				name = l.Name
			}
			all = append(all, found(Problem, fmt.Sprintf("add [[port]] name = %q, or a route by one of the ports", name),
				"backend %s is reached by %s, which is not a port: packets for it are dropped as no_route", t.who(), name))
		case t.mode == service.DR && r.Gateway.IsValid():
			all = append(all, found(Problem, "put the backend on the link of a port, or use mode tun",
				"backend %s is behind the gateway %s: mode dr reaches backends on the same layer 2 only", t.who(), r.Gateway))
		}
	}
	return all
}

// unroutable reports the backends to which there is no route, by the error. While a port is down
// its routes are gone, and checkPorts has reported it.
func (b *Box) unroutable(lost map[string][]string) (all []Finding) {
	for _, err := range slices.Sorted(maps.Keys(lost)) {
		names := lost[err]
		if down := b.portsDown(); len(down) > 0 {
			all = append(all, found(Note, "nothing before port "+list(down)+" is up", "%d backends can't be reached while port %s is down: %s", len(names), list(down), list(names)))
			continue
		}
		address, _, _ := strings.Cut(names[0], " ")
		all = append(all, found(Problem, "add a route, such as: ip route add "+address+" via GATEWAY", "backend %s can't be reached: %s", list(names), err))
	}
	return all
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
