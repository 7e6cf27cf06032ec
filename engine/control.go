package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"sluice/conf"
	"sluice/engine/answers"
	"sluice/engine/api"
	"sluice/engine/health"
	"sluice/engine/health/policy"
	"sluice/engine/inspect"
	"sluice/engine/tables"
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
	traffic, err := e.answers.Traffic(ctx, len(known))
	if api.Answered(err) != nil {
		return nil, err
	}
	refused := tables.Refusals(e.tables.Load())
	if err := e.answers.Refusals(ctx, refused); api.Answered(err) != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	latest := e.prober.States()
	sums := e.sumServices(traffic)
	out := make([]api.Service, 0, len(e.cfg.Services))
	for i := range e.cfg.Services {
		s := e.describe(&e.cfg.Services[i], latest, traffic, sums)
		if n := e.compiled.Number(e.cfg.Services[i].Key); int(n) < len(refused) {
			addRefused(&s, &refused[n])
		}
		out = append(out, s)
	}
	return out, err
}

// addRefused adds what was refused, and what a full table has done.
func addRefused(s *api.Service, c *counter.Service) {
	s.AccessDenied, s.Limited = c.Denied, c.ByLimit()
	s.FirstTotal = c.First
	s.FoundFull, s.TableFull, s.Untracked, s.Displaced = c.FoundFull, c.TableFull+c.SNATExhausted, c.Untracked, c.Displaced
	s.Unproven = uint64(max(0, c.Unproven))
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
	for id, traffic := range e.past {
		sum := sums[id.Service]
		sum.Add(&traffic)
		sums[id.Service] = sum
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
	describe := func(b *conf.Backend) api.Backend {
		id := s.Key.BackendID(b.Key)
		now, checked := latest[id]
		return e.describeBackend(s, b, now, checked, e.trafficOf(id, traffic))
	}
	for i := range s.Backends {
		out.Backends = append(out.Backends, describe(&s.Backends[i]))
	}
	out.Alarms = e.alarmsAbout(s.Key, s.Name)
	out.Pressure, out.FirstPackets = e.pressureOn(s.Key, s.Name), e.firstOf(s.Key, s.Name)
	if s.Sorry != nil {
		b := describe(s.Sorry)
		out.Sorry = &b
	}
	t := sums[s.Key]
	out.Connections = t.Connections
	out.Packets, out.Bytes = t.InPackets, t.InBytes
	out.PacketsOut, out.BytesOut = t.OutPackets, t.OutBytes
	return out
}

// trafficOf adds up what was counted for a backend, in all modes that it ever had. The caller holds
// mu.
func (e *Engine) trafficOf(id service.BackendID, traffic []counter.Backend) *counter.Backend {
	sum := new(counter.Backend)
	*sum = e.past[id]
	for _, number := range e.compiled.Numbers(id) {
		if int(number) < len(traffic) {
			sum.Add(&traffic[number])
		}
	}
	return sum
}

// describeBackend describes a backend or a sorry server. latest is the result of its last check, if
// it has one. The caller holds mu.
func (e *Engine) describeBackend(s *conf.Service, b *conf.Backend, latest health.State, checked bool, t *counter.Backend) api.Backend {
	id := s.Key.BackendID(b.Key)
	state, _ := e.health.policy.Backend(id)
	if checked {
		state = state.Refreshed(latest)
	}
	var load counter.Load
	for _, number := range e.compiled.Numbers(id) {
		of := e.loads.Of(number)
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

// errClosed is the error of requests while the daemon stops.
var errClosed = errors.New("the daemon is stopping")

// find returns a configured service and backend by their names in the API. The caller holds mu.
func (e *Engine) find(service, backend string) (*conf.Service, *conf.Backend, error) {
	s, err := e.findService(service)
	if err != nil {
		return nil, nil, err
	}
	if at, err := netip.ParseAddrPort(backend); err == nil {
		b := e.health.policy.Config().Backend(s.Key.BackendID(backendKey(at)))
		if b != nil && b.Key.String() == backend {
			return s, b, nil
		}
	}
	absent := &api.NoSuchBackend{Service: service, Backend: backend}
	for i := range s.Backends {
		absent.Legal = append(absent.Legal, s.Backends[i].Key.String())
	}
	return nil, nil, absent
}

// findService returns a configured service by its name. The caller holds mu.
func (e *Engine) findService(name string) (*conf.Service, error) {
	if s := e.health.policy.Config().ServiceByName(name); s != nil {
		return s, nil
	}
	missing := &api.NoSuchService{Service: name}
	for i := range e.cfg.Services {
		missing.Legal = append(missing.Legal, e.cfg.Services[i].Name)
	}
	return nil, missing
}

func backendKey(at netip.AddrPort) service.BackendKey {
	return service.BackendKey{Address: at.Addr(), Port: at.Port()}
}

// Backend implements api.Control.
func (e *Engine) Backend(ctx context.Context, service, backend string) (api.Backend, error) {
	e.mu.Lock()
	s, b, err := e.find(service, backend)
	if err != nil {
		e.mu.Unlock()
		return api.Backend{}, err
	}
	id := s.Key.BackendID(b.Key)
	e.mu.Unlock()
	return e.backend(ctx, id)
}

// backend describes one backend with its traffic. It visits every worker once.
func (e *Engine) backend(ctx context.Context, id service.BackendID) (api.Backend, error) {
	e.mu.Lock()
	numbers := e.compiled.Numbers(id)
	e.mu.Unlock()
	sum, silent := e.answers.TrafficOf(ctx, numbers)
	if api.Answered(silent) != nil {
		return api.Backend{}, silent
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	config := e.health.policy.Config()
	b := config.Backend(id)
	if b == nil {
		return api.Backend{}, fmt.Errorf("backend %s left the configuration meanwhile", id.Backend)
	}
	past := e.past[id]
	sum.Add(&past)
	latest, checked := e.prober.State(id)
	return e.describeBackend(config.Service(id.Service), b, latest, checked, &sum), silent
}

// asRunning returns cfg with the running values of the settings that only a start can change.
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
	client, err := parseEndpointMatch(q.Client)
	if err != nil {
		return nil, err
	}
	backend, err := parseEndpointMatch(q.Backend)
	if err != nil {
		return nil, err
	}
	var out []api.Conn
	silent, err := e.answers.EachConn(ctx, 0, func(worker int, r worker.Conn) bool {
		if q.State != "" && r.Entry.State.String() != q.State {
			return true
		}
		c, service := e.nameConn(r, worker)
		if (q.Service == "" || service == q.Service) && client.matches(c.Client) && backend.matches(c.Backend) {
			out = append(out, c)
		}
		return q.Limit == 0 || len(out) < q.Limit
	})
	if err != nil {
		return nil, err
	}
	return out, answers.Unresponsive(silent, false)
}

// nameConn translates a table entry for the API.
func (e *Engine) nameConn(r worker.Conn, worker int) (api.Conn, string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := (&inspect.Names{Services: e.compiled.Services(), Backends: e.compiled.Backends()}).Conn(r, worker)
	return c, c.Service
}

// endpointMatch selects an address, or an address with a port.
type endpointMatch struct {
	addr netip.Addr
	port uint16
}

func parseEndpointMatch(text string) (endpointMatch, error) {
	if text == "" {
		return endpointMatch{}, nil
	}
	if ap, err := netip.ParseAddrPort(text); err == nil {
		return endpointMatch{ap.Addr(), ap.Port()}, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return endpointMatch{}, api.BadRequest(fmt.Sprintf("%q is neither an address nor address:port", text))
	}
	return endpointMatch{addr: a}, nil
}

func (m endpointMatch) matches(endpoint string) bool {
	if !m.addr.IsValid() {
		return true
	}
	ap, err := netip.ParseAddrPort(endpoint)
	return err == nil && ap.Addr() == m.addr && (m.port == 0 || ap.Port() == m.port)
}
