package engine

import (
	"fmt"

	"sluice/conf"
	"sluice/pipeline"
	"sluice/pipeline/service"
)

// ids keeps the numbers by which the packet path knows services and backends. A number stays with
// its service or backend for as long as the daemon runs, configured or not, because connections
// hold it: whoever comes back after a reload finds its connections and counters again. Owned by the
// Engine.
type ids struct {
	services map[service.Key]uint32
	backends map[backendID]uint32
	// By number, from 1 on: what the number stands for, as last configured.
	service []conf.Service
	backend []backendEntry
	owned   map[uint32]owned              // by number of a service
	own     map[uint32]pipeline.Ownership // by number of a service: the last one
	moved   map[uint32]bool               // services that were owned otherwise before
}

// owned is how a service's connections were owned since the start: some may live on.
type owned struct{ byReceiver, byHash bool }

// ownership says who owns the service's connections from now on: oneWay says that no reply from its
// backends, if it has any, needs the client's hash. Those of before must be found, so that a
// service that ever had need of the hash keeps it.
func (d *ids) ownership(service uint32, backends int, oneWay bool) pipeline.Ownership {
	o := d.owned[service]
	if oneWay && !o.byHash {
		d.owned[service] = owned{byReceiver: o.byReceiver || backends > 0}
		return pipeline.ByReceiver
	}
	o.byHash = true
	d.owned[service] = o
	if o.byReceiver {
		return pipeline.ByFlowNow
	}
	return pipeline.ByFlow
}

// hasMoved notes who owns the service's connections and says whether it ever was otherwise.
func (d *ids) hasMoved(service uint32, own pipeline.Ownership) bool {
	if before, known := d.own[service]; known && before != own {
		d.moved[service] = true
	}
	d.own[service] = own
	return d.moved[service]
}

// backendID is what a backend's number stands for. The mode is part of it: connections stay in the
// mode that they were opened in when the file gives their backend another.
type backendID struct {
	name service.BackendID
	mode service.Mode
}

type backendEntry struct {
	backendID
	last int // last weight that was not 0; mh keeps the backend's place by it
}

func newIDs() *ids {
	return &ids{
		services: make(map[service.Key]uint32),
		backends: make(map[backendID]uint32),
		service:  make([]conf.Service, 1),
		backend:  make([]backendEntry, 1),
		owned:    make(map[uint32]owned),
		own:      make(map[uint32]pipeline.Ownership),
		moved:    make(map[uint32]bool),
	}
}

// room tells whether all of the configuration's services and backends can have numbers.
func (d *ids) room(cfg *conf.Config) error {
	services, backends := len(d.service), len(d.backend)
	for _, s := range cfg.Services {
		if _, ok := d.services[s.Key]; !ok {
			services++
		}
		for _, b := range s.Servers() {
			if _, ok := d.backends[backendID{s.Key.BackendID(b.Key), b.Mode}]; !ok {
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
		for _, b := range s.Servers() {
			what := backendID{s.Key.BackendID(b.Key), b.Mode}
			bid, ok := d.backends[what]
			if !ok {
				bid = uint32(len(d.backend))
				d.backends[what] = bid
				d.backend = append(d.backend, backendEntry{backendID: what})
			}
			e := &d.backend[bid]
			if b.Weight > 0 {
				e.last = b.Weight
			}
		}
	}
}

// all gives the numbers that the backend has had, one for each mode that it was ever in.
func (d *ids) all(name service.BackendID) (numbers []uint32) {
	for mode := service.NAT; mode <= service.DR; mode++ {
		if id, ok := d.backends[backendID{name, mode}]; ok {
			numbers = append(numbers, id)
		}
	}
	return numbers
}
