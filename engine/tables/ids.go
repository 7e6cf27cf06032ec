package tables

import (
	"fmt"

	"sluice/conf"
	"sluice/pipeline"
	"sluice/pipeline/service"
)

// IDs keeps the numbers by which the packet path knows services and backends. A number stays with
// its service or backend for as long as the daemon runs, configured or not, because connections
// hold it: whoever comes back after a reload finds its connections and counters again. Owned by the
// Engine.
type IDs struct {
	services map[service.Key]uint32
	backends map[Backend]uint32
	// By number, from 1 on: what the number stands for, as last configured.
	Service []conf.Service
	Backend []BackendEntry
	owned   map[uint32]owned              // by number of a service
	own     map[uint32]pipeline.Ownership // by number of a service: the last one
	moved   map[uint32]bool               // services that were owned otherwise before
}

// owned is how a service's connections were owned since the start: some may live on.
type owned struct{ byReceiver, byHash bool }

// ownership says who owns the service's connections from now on: oneWay says that no reply from its
// backends, if it has any, needs the client's hash. Those of before must be found, so that a
// service that ever had need of the hash keeps it.
func (d *IDs) ownership(service uint32, backends int, oneWay bool) pipeline.Ownership {
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
func (d *IDs) hasMoved(service uint32, own pipeline.Ownership) bool {
	if before, known := d.own[service]; known && before != own {
		d.moved[service] = true
	}
	d.own[service] = own
	return d.moved[service]
}

// Backend is what a backend's number stands for. The mode is part of it: connections stay in the
// mode that they were opened in when the file gives their backend another.
type Backend struct {
	ID   service.BackendID
	Mode service.Mode
}

type BackendEntry struct {
	Backend
	Last int // last weight that was not 0; mh keeps the backend's place by it
}

func NewIDs() *IDs {
	return &IDs{
		services: make(map[service.Key]uint32),
		backends: make(map[Backend]uint32),
		Service:  make([]conf.Service, 1),
		Backend:  make([]BackendEntry, 1),
		owned:    make(map[uint32]owned),
		own:      make(map[uint32]pipeline.Ownership),
		moved:    make(map[uint32]bool),
	}
}

// Room tells whether all of the configuration's services and backends can have numbers.
func (d *IDs) Room(cfg *conf.Config) error {
	services, backends := len(d.Service), len(d.Backend)
	for _, s := range cfg.Services {
		if _, ok := d.services[s.Key]; !ok {
			services++
		}
		for _, b := range s.Servers() {
			if _, ok := d.backends[Backend{s.Key.BackendID(b.Key), b.Mode}]; !ok {
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

// Assign gives numbers to all of the configuration; Room has said that there are enough.
func (d *IDs) Assign(cfg *conf.Config) {
	for _, s := range cfg.Services {
		id, ok := d.services[s.Key]
		if !ok {
			id = uint32(len(d.Service))
			d.services[s.Key] = id
			d.Service = append(d.Service, conf.Service{})
		}
		d.Service[id] = s
		for _, b := range s.Servers() {
			what := Backend{s.Key.BackendID(b.Key), b.Mode}
			bid, ok := d.backends[what]
			if !ok {
				bid = uint32(len(d.Backend))
				d.backends[what] = bid
				d.Backend = append(d.Backend, BackendEntry{Backend: what})
			}
			e := &d.Backend[bid]
			if b.Weight > 0 {
				e.Last = b.Weight
			}
		}
	}
}

// SetLast notes a weight that was set at run time.
func (d *IDs) SetLast(b Backend, weight int) { d.Backend[d.backends[b]].Last = weight }

// All gives the numbers that the backend has had, one for each mode that it was ever in.
func (d *IDs) All(name service.BackendID) (numbers []uint32) {
	for mode := service.NAT; mode <= service.DR; mode++ {
		if id, ok := d.backends[Backend{name, mode}]; ok {
			numbers = append(numbers, id)
		}
	}
	return numbers
}
