package conf

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"sluice/pipeline/service"
)

// checkServices compares the services with each other. places[i] is the place of services[i].
func (r *report) checkServices(services []Service, places []*place) {
	r.checkNames(services, places)
	r.checkOverlap(services, places)
	r.checkLoops(services, places)
	r.checkSources(services, places)
}

// checkNames checks that names are unique, because commands identify a service by its name.
func (r *report) checkNames(services []Service, places []*place) {
	lines := make(map[string]int, len(services))
	for i, s := range services {
		if s.Name == "" {
			continue
		}
		if line, taken := lines[s.Name]; taken {
			r.fail(places[i].key("name"), "%q is already the name of the service at line %d; give each service a unique name", s.Name, line)
			continue
		}
		lines[s.Name] = s.Line
	}
}

// checkOverlap checks that every packet belongs to one service. A port takes precedence over a
// range, a range over any port. So only two ranges, a range and a port in it, or two equal services
// conflict.
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
		// Sorted by first port, in the order of the file where equal: a service that overlaps an
		// earlier one then also overlaps the one with the greatest last port so far.
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

// failOverlap reports two services, at the one that is later in the file.
func (r *report) failOverlap(services []Service, places []*place, i, j int) {
	if services[i].Line > services[j].Line {
		i, j = j, i
	}
	first, second := services[i], services[j]
	if first.Key == second.Key {
		r.fail(places[j], "%s is already the service %q at line %d; define each service once", second.Key, first.Name, first.Line)
		return
	}
	r.fail(places[j].key("port"), "%s overlaps %s of the service %q at line %d; allowed: disjoint ranges, or \"any\" together with a range or port",
		second.Key.Ports, first.Key.Ports, first.Name, first.Line)
}

// checkLoops checks that no backend is the address of a service: its packets would come back to
// Sluice.
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

// checkSources checks that fullnat sends from no address of a service or a backend: what comes from
// there would be taken for Sluice's own, and replies for requests.
func (r *report) checkSources(services []Service, places []*place) {
	used := make(map[netip.Addr]string)
	for i := range services {
		s := &services[i]
		for _, b := range s.Servers() {
			if a := b.Key.Address; used[a] == "" {
				used[a] = fmt.Sprintf("a backend of the service %q at line %d", s.Name, b.Line)
			}
		}
	}
	for i := range services {
		s := &services[i]
		used[s.Key.Address] = fmt.Sprintf("the address of the service %q at line %d", s.Name, s.Line)
	}
	for i := range services {
		for j, a := range services[i].Source {
			if what := used[a]; what != "" && a.IsValid() {
				r.fail(places[i].key("source").item(j), "%s is %s; fullnat needs an address of its own to send from", a, what)
			}
		}
	}
}
