package doctor

import (
	"fmt"

	"sluice/pipeline/service"
)

// checkRoutes checks that the kernel's routes reach every backend through a port.
func checkRoutes(b *Box) (all []Finding) {
	for _, t := range b.targets() {
		r, err := b.Route(t.address)
		switch port := b.portByIndex(r.Ifindex); {
		case err != nil:
			all = append(all, found(Problem, fmt.Sprintf("add a route, such as: ip route add %s via GATEWAY", whole(t.address)),
				"backend %s can't be reached: %v", t.who(), err))
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
