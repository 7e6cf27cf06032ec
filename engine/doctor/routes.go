package doctor

import (
	"fmt"
	"net/netip"

	"sluice/engine/api"
	"sluice/engine/host"
	"sluice/pipeline/service"
)

// checkRoutes checks that the kernel's routes reach every backend through a port. While a port is
// down its routes are gone, and checkPorts has reported it.
func checkRoutes(b *Box) (all []Finding) {
	var found causes
	var lost []string // while a port is down
	down, networks, suffering := b.portsDown(), b.networks(), b.suffering()
	for _, t := range b.targets() {
		r, err := b.Route(t.address)
		missing := missingRoute(networks, t.address)
		switch port := b.portByIndex(r.Ifindex); {
		case err != nil && len(b.rulesFor(netip.Addr{}, t.address)) > 0: // checkRules reports it
		case err != nil && len(down) > 0:
			lost = append(lost, t.who())
		case err != nil && missing != "":
			found.add(missing, t, missing, "backend %s can't be reached: "+err.Error())
		case err != nil:
			fix := here("GATEWAY is the router that leads there", addRoute(whole(t.address).String(), "via GATEWAY"))
			found.add(err.Error(), t, fix, "backend %s can't be reached: "+err.Error())
		case r.Local:
			found.add("local"+t.address.String(), t, "give the backend an address of another machine", "backend %s is an address of this box")
		case port == nil:
			name := "an interface that no longer exists"
			if l := b.linkByIndex(r.Ifindex); l != nil {
				name = l.Name
			}
			fix := fmt.Sprintf("add [[port]] name = %q, or a route by one of the ports", name)
			if missing != "" {
				fix = missing
			}
			found.add(fix, t, fix, "backend %s is reached by "+name+", which is not a port: packets for it are dropped as no_route")
		case r.Gateway.IsValid() && missing != "" && suffering[t.address]:
			found.add(missing, t, missing, fmt.Sprintf("backend %%s is on the network of a port, and the route to it leads by %s to %s, where it does not answer", port.Name, r.Gateway))
		case t.mode == service.DR && r.Gateway.IsValid():
			found.add("dr"+r.Gateway.String(), t, "put the backend on the link of a port, or use mode tun",
				fmt.Sprintf("backend %%s is behind the gateway %s: mode dr reaches backends on the same layer 2 only", r.Gateway))
		}
	}
	all = found.problems()
	if len(lost) > 0 {
		all = append(all, Finding{Severity: Note, Fix: "nothing before port " + list(down) + " is up",
			Text: fmt.Sprintf("%d backends can't be reached while port %s is down: %s", len(lost), list(down), list(lost))})
	}
	return all
}

// networks returns the addresses of ports that have a network.
func (b *Box) networks() (all []host.Address) {
	for _, a := range b.Addresses {
		if l := b.Links[a.Link]; !a.Prefix.IsSingleIP() && l != nil && b.portByIndex(l.Index) != nil {
			all = append(all, a)
		}
	}
	return all
}

// missingRoute returns the fix for a backend without a route: that of the network of a port's
// address; "": it is on none of them.
func missingRoute(networks []host.Address, backend netip.Addr) string {
	for _, a := range networks {
		if to := a.Prefix.Masked(); to.Contains(backend) {
			return here("the network of "+a.Prefix.Addr().String()+" on "+a.Link, addRoute(to.String(), "dev "+a.Link))
		}
	}
	return ""
}

// suffering returns the backends that are down, or to which connections hang.
func (b *Box) suffering() map[netip.Addr]bool {
	all := make(map[netip.Addr]bool)
	for _, conns := range b.hanging(b.before()) {
		if a, err := netip.ParseAddrPort(conns[0].Backend); err == nil {
			all[a.Addr()] = true
		}
	}
	for _, s := range b.Services {
		for _, be := range s.Backends {
			if be.State == api.StateDown {
				all[address(be.Address)] = true
			}
		}
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
