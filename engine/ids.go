package engine

import (
	"fmt"

	"sluice/conf"
	"sluice/pipeline"
	"sluice/pipeline/service"
)

// ids keeps the numbers by which the packet path knows services and backends. A number stays with its
// service or backend for as long as the daemon runs, configured or not, because connections hold it:
// whoever comes back after a reload finds its connections and counters again. Owned by the Engine.
type ids struct {
	services map[service.Key]uint32
	backends map[backendName]uint32
	// By number, from 1 on: what the number stands for, as last configured.
	service []conf.Service
	backend []backendEntry
}

type backendEntry struct {
	name backendName
	mode service.Mode
	last int // last weight that was not 0; mh keeps the backend's place by it
}

func newIDs() *ids {
	return &ids{
		services: make(map[service.Key]uint32),
		backends: make(map[backendName]uint32),
		service:  make([]conf.Service, 1),
		backend:  make([]backendEntry, 1),
	}
}

// room tells whether all of the configuration's services and backends can have numbers.
func (d *ids) room(cfg *conf.Config) error {
	services, backends := len(d.service), len(d.backend)
	for _, s := range cfg.Services {
		if _, ok := d.services[s.Key]; !ok {
			services++
		}
		for _, b := range s.Backends {
			if _, ok := d.backends[backendName{s.Key, b.Key}]; !ok {
				backends++
			}
		}
	}
	if services > pipeline.MaxServices || backends > pipeline.MaxBackends {
		return fmt.Errorf("%d services and %d backends since the start, at most %d and %d: restart to forget old ones",
			services-1, backends-1, pipeline.MaxServices-1, pipeline.MaxBackends-1)
	}
	return nil
}

// assign gives numbers to all of the configuration; room has said that there are enough.
func (d *ids) assign(cfg *conf.Config) {
	for _, s := range cfg.Services {
		id, ok := d.services[s.Key]
		if !ok {
			id = uint32(len(d.service))
			d.services[s.Key] = id
			d.service = append(d.service, conf.Service{})
		}
		d.service[id] = s
		for _, b := range s.Backends {
			name := backendName{s.Key, b.Key}
			bid, ok := d.backends[name]
			if !ok {
				bid = uint32(len(d.backend))
				d.backends[name] = bid
				d.backend = append(d.backend, backendEntry{})
			}
			e := &d.backend[bid]
			e.name, e.mode = name, b.Mode
			if b.Weight > 0 {
				e.last = b.Weight
			}
		}
	}
}
