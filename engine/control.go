package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"sluice/conf"
	"sluice/engine/api"
	"sluice/engine/health"
	"sluice/engine/health/policy"
	"sluice/engine/inspect"
	"sluice/engine/worker"
	"sluice/pipeline/counter"
	"sluice/pipeline/service"
)

var _ api.Control = (*Engine)(nil)

// List implements api.Control.
func (e *Engine) List(ctx context.Context) ([]api.Service, error) {
	e.mu.Lock()
	known := e.compiled.Backends()
	e.mu.Unlock()
	traffic := make([]counter.Backend, len(known))
	if err := e.addTraffic(ctx, traffic); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	latest := e.prober.States()
	sums := e.sumServices(traffic)
	out := make([]api.Service, 0, len(e.cfg.Services))
	for i := range e.cfg.Services {
		out = append(out, e.describe(&e.cfg.Services[i], latest, traffic, sums))
	}
	return out, nil
}

// idsPerVisit bounds how many backends' counters a worker adds up in one go: some ten microseconds'
// worth.
const idsPerVisit = 2048

// addTraffic adds what all workers counted for the first len(traffic) backend ids.
func (e *Engine) addTraffic(ctx context.Context, traffic []counter.Backend) error {
	for from := 0; from < len(traffic); from += idsPerVisit {
		to := min(from+idsPerVisit, len(traffic))
		err := e.workers.OnAll(ctx, func(w *worker.Worker) { w.AddTraffic(traffic[from:to], from) })
		if err != nil {
			return err
		}
	}
	return nil
}

// sumServices adds up the counters of each service. They survive the backend that made them. The
// caller holds mu.
func (e *Engine) sumServices(traffic []counter.Backend) map[service.Key]counter.Backend {
	sums := make(map[service.Key]counter.Backend, len(e.cfg.Services))
	for id := 1; id < len(traffic); id++ {
		key := e.compiled.Backends()[id].ID.Service
		sum := sums[key]
		sum.Add(&traffic[id])
		sums[key] = sum
	}
	return sums
}

// describe reports one service. The caller holds mu.
func (e *Engine) describe(s *conf.Service, latest map[service.BackendID]health.State, traffic []counter.Backend, sums map[service.Key]counter.Backend) api.Service {
	out := api.Service{
		Name: s.Name, Address: s.Key.Address.String(), Port: api.Port(s.Key.Ports),
		Protocol: s.Key.Protocol.String(), Mode: s.Mode.String(), Scheduler: s.Scheduler,
		PersistenceS: s.Persistence.Seconds(), HealthFrozen: e.health.policy.Frozen(s.Key),
		Backends: make([]api.Backend, 0, len(s.Backends)),
	}
	for i := range s.Backends {
		out.Backends = append(out.Backends, e.describeBackend(s, &s.Backends[i], latest, traffic))
	}
	out.Alarms = e.alarmsAbout(s.Key, s.Name)
	if s.Sorry != nil {
		b := e.describeBackend(s, s.Sorry, latest, traffic)
		out.Sorry = &b
	}
	t := sums[s.Key]
	out.Connections = t.Connections
	out.Packets, out.Bytes = t.InPackets, t.InBytes
	out.PacketsOut, out.BytesOut = t.OutPackets, t.OutBytes
	return out
}

func (e *Engine) describeBackend(s *conf.Service, b *conf.Backend, latest map[service.BackendID]health.State, traffic []counter.Backend) api.Backend {
	name := s.Key.BackendID(b.Key)
	state, _ := e.health.policy.Backend(name)
	if now, checked := latest[name]; checked {
		state = state.Refreshed(now)
	}
	var t counter.Backend
	var load counter.Load
	for _, id := range e.compiled.Numbers(name) {
		if int(id) < len(traffic) {
			t.Add(&traffic[id])
		}
		of := e.loads.Of(id)
		load.Active += of.Active
		load.Inactive += of.Inactive
	}
	return api.Backend{
		Address: b.Key.Address.String(), Port: api.SinglePort(b.Key.Port),
		Weight: state.Weight, ConfiguredWeight: b.Weight, Mode: b.Mode.String(), State: state.State,
		StateSinceS: time.Since(state.Since).Seconds(), LastError: state.Check.Last,
		Reason: state.Reason, Protected: state.Protected != "",
		SlowStart: float64(state.SlowStart) / policy.WeightSteps,
		Override:  string(state.Override),
		Active:    load.Active, Inactive: load.Inactive,
		Connections: t.Connections, Packets: t.InPackets, Bytes: t.InBytes,
		PacketsOut: t.OutPackets, BytesOut: t.OutBytes,
	}
}

// errClosed is for verbs that come while the daemon stops.
var errClosed = errors.New("the daemon is stopping")

// find looks up a configured service and backend by their names in api. The caller holds mu.
func (e *Engine) find(service, backend string) (*conf.Service, *conf.Backend, error) {
	missing := &api.NoSuchService{Service: service}
	for i := range e.cfg.Services {
		s := &e.cfg.Services[i]
		if s.Name != service {
			missing.Legal = append(missing.Legal, s.Name)
			continue
		}
		absent := &api.NoSuchBackend{Service: service, Backend: backend}
		for j := range s.Backends {
			if s.Backends[j].Key.String() == backend {
				return s, &s.Backends[j], nil
			}
			absent.Legal = append(absent.Legal, s.Backends[j].Key.String())
		}
		return nil, nil, absent
	}
	return nil, nil, missing
}

// backend reports one backend with its traffic.
func (e *Engine) backend(ctx context.Context, name service.BackendID) (api.Backend, error) {
	services, err := e.List(ctx)
	if err != nil {
		return api.Backend{}, err
	}
	for _, s := range services {
		for _, b := range s.Backends {
			if s.Key() == name.Service.String() && b.Endpoint() == name.Backend.String() {
				return b, nil
			}
		}
	}
	return api.Backend{}, fmt.Errorf("backend %s left the configuration meanwhile", name.Backend)
}

// asRunning is the new configuration with what can only change at a start as it is now.
func asRunning(cfg, now *conf.Config) *conf.Config {
	out := *cfg
	out.Ports, out.API = now.Ports, now.API
	hashKey := cfg.Engine.HashKey
	out.Engine = now.Engine
	out.Engine.HashKey = hashKey
	return &out
}

// Conns implements api.Control.
func (e *Engine) Conns(ctx context.Context, q api.ConnQuery) ([]api.Conn, error) {
	client, err := endpointFilter(q.Client)
	if err != nil {
		return nil, err
	}
	backend, err := endpointFilter(q.Backend)
	if err != nil {
		return nil, err
	}
	var out []api.Conn
	for _, w := range e.workers.All {
		for _, family := range []int{4, 6} {
			for cursor := uint32(0); q.Limit == 0 || len(out) < q.Limit; {
				var found []worker.Conn
				err := w.Do(ctx, func() { found, cursor = w.Conns(family, cursor) })
				if err != nil {
					return nil, err
				}
				for _, r := range found {
					c, service := e.nameConn(r, w.ID())
					if (q.Service == "" || service == q.Service) && client.fits(c.Client) && backend.fits(c.Backend) {
						out = append(out, c)
					}
				}
				if cursor == 0 {
					break
				}
			}
		}
	}
	if q.Limit > 0 && len(out) > q.Limit {
		out = out[:q.Limit]
	}
	return out, nil
}

// nameConn puts a table entry into words.
func (e *Engine) nameConn(r worker.Conn, worker int) (api.Conn, string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := (&inspect.Names{Services: e.compiled.Services(), Backends: e.compiled.Backends()}).Conn(r, worker)
	return c, c.Service
}

// filter selects an address, or an address with a port.
type filter struct {
	addr netip.Addr
	port uint16
}

func endpointFilter(text string) (filter, error) {
	if text == "" {
		return filter{}, nil
	}
	if ap, err := netip.ParseAddrPort(text); err == nil {
		return filter{ap.Addr(), ap.Port()}, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return filter{}, api.BadRequest(fmt.Sprintf("%q is neither an address nor address:port", text))
	}
	return filter{addr: a}, nil
}

func (f filter) fits(endpoint string) bool {
	if !f.addr.IsValid() {
		return true
	}
	ap, err := netip.ParseAddrPort(endpoint)
	return err == nil && ap.Addr() == f.addr && (f.port == 0 || ap.Port() == f.port)
}
