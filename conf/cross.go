package conf

import (
	"cmp"
	"net/netip"
	"slices"

	"sluice/pipeline/service"
)

// checkServices compares the services with each other. places[i] is where services[i] stands.
func (r *report) checkServices(services []Service, places []*place) {
	r.checkNames(services, places)
	r.checkOverlap(services, places)
	r.checkLoops(services, places)
}

// checkNames: commands name a service, so names are unique.
func (r *report) checkNames(services []Service, places []*place) {
	lines := make(map[string]int, len(services))
	for i, s := range services {
		if s.Name == "" {
			continue
		}
		if line, taken := lines[s.Name]; taken {
			r.fail(places[i].key("name"), "%q is the name of the service at line %d too; give each service its own", s.Name, line)
			continue
		}
		lines[s.Name] = s.Line
	}
}

// checkOverlap: a packet has one service. One port is found before a range and that before any
// port, so only two ranges, or a range and a port in it, or two equal services, are in each other's
// way.
func (r *report) checkOverlap(services []Service, places []*place) {
	type front struct {
		address  netip.Addr
		protocol service.Protocol
	}
	groups := map[front][]int{}
	for i, s := range services {
		if usable(s.Key) {
			f := front{s.Key.Address, s.Key.Protocol}
			groups[f] = append(groups[f], i)
		}
	}
	for _, group := range groups {
		// By first port, in the order of the file where equal: then what overlaps i at all overlaps
		// the one before it with the last port so far.
		slices.SortStableFunc(group, func(a, b int) int {
			return cmp.Compare(services[a].Key.Ports.First, services[b].Key.Ports.First)
		})
		any, widest := -1, -1
		for _, i := range group {
			ports := services[i].Key.Ports
			rival := &widest
			if ports == service.AnyPort {
				rival = &any
			}
			if *rival >= 0 && services[*rival].Key.Ports.Overlaps(ports) {
				r.failOverlap(services, places, *rival, i)
			}
			if *rival < 0 || services[*rival].Key.Ports.Last < ports.Last {
				*rival = i
			}
		}
	}
}

// failOverlap reports two services, at the one that comes later in the file.
func (r *report) failOverlap(services []Service, places []*place, i, j int) {
	if services[i].Line > services[j].Line {
		i, j = j, i
	}
	first, second := services[i], services[j]
	if first.Key == second.Key {
		r.fail(places[j], "%s is the service %q at line %d already; write each service once", second.Key, first.Name, first.Line)
		return
	}
	r.fail(places[j].key("port"), "%s overlaps %s of the service %q at line %d; legal: ranges apart from each other, or \"any\" beside one range or port",
		second.Key.Ports, first.Key.Ports, first.Name, first.Line)
}

// checkLoops: a packet to a backend that is a service's address would come back to us.
func (r *report) checkLoops(services []Service, places []*place) {
	fronts := make(map[netip.Addr]*Service, len(services))
	for i := range services {
		if a := services[i].Key.Address; a.IsValid() && fronts[a] == nil {
			fronts[a] = &services[i]
		}
	}
	for i, s := range services {
		for j, b := range s.Servers() {
			if front := fronts[b.Key.Address]; front != nil && b.Key.Address.IsValid() {
				r.fail(s.serverAt(places[i], j).key("address"),
					"%s is the address of the service %q at line %d; a backend needs an address of its own", b.Key.Address, front.Name, front.Line)
			}
		}
	}
}
