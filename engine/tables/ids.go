package tables

import (
	"fmt"
	"slices"

	"sluice/conf"
	"sluice/pipeline"
	"sluice/pipeline/service"
)

// Backend is what a backend's number stands for. The mode is part of it: connections stay in the
// mode that they were opened in when the configuration gives their backend another.
type Backend struct {
	ID   service.BackendID
	Mode service.Mode
}

// ids are the numbers by which the packet path knows services and backends. A number stays with its
// service or backend for as long as it is configured or has connections, which contain it: a
// backend that returns with a later configuration while some are left has them again.
//
// It is an immutable value, replaced when the configuration changes.
type ids struct {
	config *conf.Config // that was numbered last

	service map[service.Key]uint32
	backend map[service.BackendID]modes
	// By number, from 1 on: what the number stands for. Services as they were last configured. The
	// zero value is a number that is free.
	services []conf.Service
	backends []Backend
	// free numbers, which are given again in this order
	freeServices, freeBackends []uint32
	// former are the numbers, ascending, that stand for a backend that is not configured, or for
	// one that is configured in another mode
	former []uint32

	numbers []numbers // by position of the service in config
}

// modes are the numbers of a backend by mode, 0 in modes that have none.
type modes [service.EndOfModes]uint32

// numbers are those of a configured service and its servers.
type numbers struct {
	service uint32
	servers []modes // by position in Servers
	// The servers' numbers in their configured modes, the latest added first, because that is where
	// IPVS puts a new destination (ip_vs_ctl.c, __ip_vs_add_dest). The sorry server is last; it is
	// first in sorry, which is nil without one.
	candidates, sorry []uint32
}

// clone returns a copy that shares nothing that with or without write.
func (d *ids) clone() ids {
	next := *d
	next.service, next.backend = cloneMap(d.service), cloneMap(d.backend)
	next.services, next.backends = slices.Clone(d.services), slices.Clone(d.backends)
	next.freeServices, next.freeBackends = slices.Clone(d.freeServices), slices.Clone(d.freeBackends)
	if len(next.services) == 0 {
		next.services, next.backends = make([]conf.Service, 1), make([]Backend, 1)
	}
	return next
}

// with returns the numbers with those that cfg needs in addition.
func (d *ids) with(cfg *conf.Config) (ids, error) {
	next := d.clone()
	next.config, next.numbers = cfg, make([]numbers, len(cfg.Services))
	for i := range cfg.Services {
		s := &cfg.Services[i]
		next.numbers[i].service = next.addService(s)
		for _, b := range s.Servers() {
			next.addBackend(s.Key.BackendID(b.Key), b.Mode)
		}
	}
	if s, b := len(next.services), len(next.backends); s > pipeline.MaxServices || b > pipeline.MaxBackends {
		return ids{}, fmt.Errorf("%d services and %d backends, including removed ones with connections; allowed: at most %d and %d; try again when connections of removed backends have ended, or use on_remove = \"reset\"",
			s-1, b-1, pipeline.MaxServices-1, pipeline.MaxBackends-1)
	}
	for i := range cfg.Services {
		next.collect(&cfg.Services[i], &next.numbers[i])
	}
	next.findFormer()
	return next, nil
}

// without returns the numbers without those in ended, of former backends that have no connections,
// and without services of which nothing is left.
func (d *ids) without(ended []uint32) ids {
	next := d.clone()
	for _, number := range ended {
		b := &next.backends[number]
		of := next.backend[b.ID]
		if of[b.Mode] = 0; of == (modes{}) {
			delete(next.backend, b.ID)
		} else {
			next.backend[b.ID] = of
		}
		*b = Backend{}
		next.freeBackends = append(next.freeBackends, number)
	}
	left := make(map[service.Key]bool, len(next.services))
	for i := range next.config.Services {
		left[next.config.Services[i].Key] = true
	}
	for id := range next.backend {
		left[id.Service] = true
	}
	for number := 1; number < len(next.services); number++ {
		if key := next.services[number].Key; key.Address.IsValid() && !left[key] {
			delete(next.service, key)
			next.services[number] = conf.Service{}
			next.freeServices = append(next.freeServices, uint32(number))
		}
	}
	// The configured servers' numbers in modes of before.
	next.numbers = slices.Clone(next.numbers)
	for i := range next.config.Services {
		n := numbers{service: next.numbers[i].service}
		next.collect(&next.config.Services[i], &n)
		next.numbers[i] = n
	}
	next.findFormer()
	return next
}

// findFormer sets former.
func (d *ids) findFormer() {
	current := make([]bool, len(d.backends))
	for i := range d.numbers {
		for _, number := range d.numbers[i].candidates {
			current[number] = true
		}
	}
	d.former = nil
	for number := 1; number < len(d.backends); number++ {
		if !current[number] && d.backends[number].exists() {
			d.former = append(d.former, uint32(number))
		}
	}
}

// exists reports whether the number stands for a backend.
func (b *Backend) exists() bool { return b.ID.Backend.Address.IsValid() }

func (d *ids) addService(s *conf.Service) uint32 {
	number, known := d.service[s.Key]
	if !known {
		number = uint32(len(d.services))
		if n := len(d.freeServices); n > 0 {
			number, d.freeServices = d.freeServices[0], d.freeServices[1:]
		} else {
			d.services = append(d.services, conf.Service{})
		}
		d.service[s.Key] = number
	}
	d.services[number] = *s
	return number
}

func (d *ids) addBackend(id service.BackendID, mode service.Mode) {
	of := d.backend[id]
	if of[mode] != 0 {
		return
	}
	if n := len(d.freeBackends); n > 0 {
		of[mode], d.freeBackends = d.freeBackends[0], d.freeBackends[1:]
	} else {
		of[mode] = uint32(len(d.backends))
		d.backends = append(d.backends, Backend{})
	}
	d.backends[of[mode]] = Backend{id, mode}
	d.backend[id] = of
}

// collect fills in the numbers of a service's servers.
func (d *ids) collect(s *conf.Service, n *numbers) {
	servers := s.Servers()
	n.servers = make([]modes, len(servers))
	for i := range servers {
		n.servers[i] = d.backend[s.Key.BackendID(servers[i].Key)]
	}
	for i := len(s.Backends) - 1; i >= 0; i-- {
		n.candidates = append(n.candidates, n.servers[i][s.Backends[i].Mode])
	}
	if s.Sorry != nil {
		number := n.servers[len(s.Backends)][s.Sorry.Mode]
		n.sorry = append([]uint32{number}, n.candidates...)
		n.candidates = append(n.candidates, number)
	}
}

// all returns the numbers of the backend, one for each mode that it is in or has connections in.
func (d *ids) all(id service.BackendID) (numbers []uint32) {
	for _, number := range d.backend[id] {
		if number != 0 {
			numbers = append(numbers, number)
		}
	}
	return numbers
}

// lastWeights returns the last weight above 0 of every backend, by number. before are those of the
// tables before; they are returned if nothing has changed. Only the services at the given places
// may differ. With a new configuration, a backend that is drained has the weight of the file.
func (d *ids) lastWeights(in *Input, before []int, changed bool, places []int) []int {
	last := before
	if len(before) < len(d.backends) {
		last = make([]int, len(d.backends))
		copy(last, before)
	}
	own := len(last) > len(before) // last is not shared
	for _, i := range places {
		health := in.Health.Backends(i)
		for j, b := range d.config.Services[i].Servers() {
			number := d.numbers[i].servers[j][b.Mode]
			weight := last[number]
			if changed && b.Weight > 0 {
				weight = b.Weight
			}
			if w := in.Health.LastWeight(health[j].ID, b.Weight); w > 0 {
				weight = w
			} else if health[j].Weight > 0 {
				weight = health[j].Weight
			}
			if weight == last[number] {
				continue
			}
			if !own {
				last, own = slices.Clone(last), true
			}
			last[number] = weight
		}
	}
	return last
}

// SameNumbers reports whether the numbers of services, backends and sources are certainly those of
// another State. A state without changes shares them with the one before.
func (s *State) SameNumbers(other *State) bool {
	return same(s.ids.services, other.ids.services) && same(s.ids.backends, other.ids.backends) && same(s.snat.sources, other.snat.sources)
}

// same reports whether two slices are one.
func same[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
