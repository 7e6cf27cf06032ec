package tables

import (
	"fmt"
	"maps"
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
// service or backend for as long as the daemon runs, configured or not, because connections contain
// it: a service that returns with a later configuration has its connections and counters again.
//
// It is an immutable value, replaced when the configuration changes.
type ids struct {
	config *conf.Config // that was numbered last

	service map[service.Key]uint32
	backend map[service.BackendID]modes
	// By number, from 1 on: what the number stands for. Services as they were last configured.
	services []conf.Service
	backends []Backend

	numbers []numbers // by position of the service in config
}

// modes are the numbers of a backend by mode, 0 in modes that it was never in.
type modes [service.DR + 1]uint32

// numbers are those of a configured service and its servers.
type numbers struct {
	service uint32
	servers []modes // by position in Servers
	// The servers' numbers in their configured modes, the latest added first, because that is where
	// IPVS puts a new destination (ip_vs_ctl.c, __ip_vs_add_dest). The sorry server is last; it is
	// first in sorry, which is nil without one.
	candidates, sorry []uint32
}

// with returns the numbers with those that cfg needs in addition.
func (d *ids) with(cfg *conf.Config) (ids, error) {
	next := ids{
		config: cfg, service: maps.Clone(d.service), backend: maps.Clone(d.backend),
		services: slices.Clone(d.services), backends: slices.Clone(d.backends),
		numbers: make([]numbers, len(cfg.Services)),
	}
	if next.service == nil {
		next.service, next.backend = make(map[service.Key]uint32), make(map[service.BackendID]modes)
		next.services, next.backends = make([]conf.Service, 1), make([]Backend, 1)
	}
	for i := range cfg.Services {
		s := &cfg.Services[i]
		next.numbers[i].service = next.addService(s)
		for _, b := range s.Servers() {
			next.addBackend(s.Key.BackendID(b.Key), b.Mode)
		}
	}
	if s, b := len(next.services), len(next.backends); s > pipeline.MaxServices || b > pipeline.MaxBackends {
		return ids{}, fmt.Errorf("%d services and %d backends since the start, at most %d and %d: restart to forget old ones",
			s-1, b-1, pipeline.MaxServices-1, pipeline.MaxBackends-1)
	}
	for i := range cfg.Services {
		next.collect(&cfg.Services[i], &next.numbers[i])
	}
	return next, nil
}

func (d *ids) addService(s *conf.Service) uint32 {
	number, known := d.service[s.Key]
	if !known {
		number = uint32(len(d.services))
		d.service[s.Key] = number
		d.services = append(d.services, conf.Service{})
	}
	d.services[number] = *s
	return number
}

func (d *ids) addBackend(id service.BackendID, mode service.Mode) {
	of := d.backend[id]
	if of[mode] == 0 {
		of[mode] = uint32(len(d.backends))
		d.backend[id] = of
		d.backends = append(d.backends, Backend{id, mode})
	}
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

// all returns the numbers that the backend has had, one for each mode that it was ever in.
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
