package apitest

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"sluice/engine/api"
)

// Fake is a balancer without an engine: it answers from its fields and records the calls. Set the
// fields before it is served. The embedded interfaces are nil.
type Fake struct {
	api.AccessControl
	api.Diagnostics
	api.Changes

	Services     []api.Service
	Connections  []api.Conn
	Statistics   api.Stats
	ReloadResult api.ReloadResult
	AlarmList    []api.Alarm
	Frozen       []string      // the answer to FreezeHealth
	Remark       string        // Backend.Note in answers to SetWeight
	Err          error         // of every call
	Ended        chan struct{} // Done returns it
	StuckWorker  error         // Stuck returns it

	mu    sync.Mutex
	calls []string
}

// NewFake returns a fake with two services.
func NewFake() *Fake {
	return &Fake{
		Ended: make(chan struct{}),
		Services: []api.Service{
			{Name: "web", Address: "198.51.100.10", Port: api.SinglePort(80), Protocol: "tcp", Mode: "nat", Scheduler: "wlc",
				PersistenceS: 300, Connections: 50, Packets: 400, Bytes: 30000, PacketsOut: 350, BytesOut: 1000000,
				Backends: []api.Backend{
					{Address: "10.0.0.11", Port: api.SinglePort(8080), Weight: 1, Mode: "nat", State: api.StateUp,
						Active: 3, Inactive: 14, Connections: 30, Packets: 300, Bytes: 20000, PacketsOut: 250, BytesOut: 900000},
					{Address: "10.0.0.12", Port: api.SinglePort(8080), Mode: "tun", State: api.StateDrain},
					{Address: "10.0.0.12", Port: api.SinglePort(8081), Weight: 2, Mode: "dr", State: api.StateDown},
				}},
			{Name: "six", Address: "2001:db8::10", Port: api.Port{First: 8000, Last: 8099}, Protocol: "udp", Mode: "fullnat", Scheduler: "mh",
				Backends: []api.Backend{{Address: "2001:db8::11", Weight: 65535, Mode: "fullnat", State: api.StateUp}}},
		},
		Connections: []api.Conn{{Service: "web", Protocol: "tcp", Client: "10.1.1.1:50000", Virtual: "198.51.100.10:80",
			Backend: "10.0.0.11:8080", State: "ESTABLISHED", Mode: "nat", ExpiresS: 897.5, Worker: 1}},
		Statistics: api.Stats{Version: "0.1", UptimeS: 3723, Rx: 100, Forwarded: 90, Replied: 3,
			Drops:   map[string]uint64{"short": 0, "no_backend": 5, "ttl_expired": 2},
			Workers: []api.WorkerStats{{Worker: 0, CPU: 3, Rx: 100, BusyShare: 0.25, PacketsPerBatch: 12.34, SyscallsPerPacket: 0.0156}},
			Ports: []api.PortStats{{Name: "eth0", IO: api.IOZeroCopy, Up: true, MTU: 1500, Queues: []api.QueueStats{{Queue: 0, Rx: 100}}},
				{Name: "eth1", IO: api.IOGeneric}},
			Frames: api.FrameStats{Total: 4096, Free: 2048, Fill: 2048}, Tables: api.TableStats{ConnectionsV4: 1, Capacity: 1 << 20}},
	}
}

// Record appends a call; Calls returns it.
func (f *Fake) Record(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
}

// Calls returns the recorded calls since it was last called, joined by "; ".
func (f *Fake) Calls() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := strings.Join(f.calls, "; ")
	f.calls = nil
	return calls
}

func (f *Fake) List(context.Context) ([]api.Service, error) { return f.Services, f.Err }
func (f *Fake) Stats(context.Context) (api.Stats, error)    { return f.Statistics, f.Err }

// Backend answers from Services.
func (f *Fake) Backend(_ context.Context, service, backend string) (api.Backend, error) {
	if f.Err != nil {
		return api.Backend{}, f.Err
	}
	return BackendOf(f.Services, service, backend)
}

// BackendOf is Control.Backend for services in a list.
func BackendOf(services []api.Service, service, backend string) (api.Backend, error) {
	for _, s := range services {
		if s.Name != service {
			continue
		}
		for _, b := range s.Backends {
			if b.Endpoint() == backend {
				return b, nil
			}
		}
		return api.Backend{}, &api.NoSuchBackend{Service: service, Backend: backend}
	}
	return api.Backend{}, &api.NoSuchService{Service: service}
}

func (f *Fake) Conns(_ context.Context, q api.ConnQuery) ([]api.Conn, error) {
	f.Record("conns %s|%s|%s|%s|%d", q.Service, q.Client, q.Backend, q.State, q.Limit)
	return f.Connections, f.Err
}

func (f *Fake) SetWeight(_ context.Context, service, backend string, weight int) (api.Backend, error) {
	if f.Err != nil {
		return api.Backend{}, f.Err
	}
	if _, err := BackendOf(f.Services, service, backend); err != nil {
		return api.Backend{}, err // the server resolves short forms after that
	}
	f.Record("weight %s %s %d", service, backend, weight)
	b := f.Services[0].Backends[0]
	b.Weight, b.ConfiguredWeight = weight, 1
	if weight == 0 {
		b.State = api.StateDrain
	}
	b.Note = f.Remark
	return b, nil
}

func (f *Fake) Override(_ context.Context, r api.OverrideRequest) (api.Backend, error) {
	if f.Err != nil {
		return api.Backend{}, f.Err
	}
	if _, err := BackendOf(f.Services, r.Service, r.Backend); err != nil {
		return api.Backend{}, err
	}
	f.Record("%s %s %s %v", r.State, r.Service, r.Backend, r.DeadlineS)
	b := f.Services[0].Backends[0]
	b.ConfiguredWeight, b.Override = 1, r.State
	if r.State != api.OverrideEnable {
		b.Weight, b.State = 0, api.StateDrain
	}
	return b, nil
}

// Succeed hands over at once.
func (f *Fake) Succeed(_ context.Context, prepare func(config string) (layout string, err error), give func() error) error {
	f.Record("succeed")
	if _, err := prepare(""); err != nil {
		return err
	}
	return give()
}

func (f *Fake) Reload(_ context.Context, o api.ReloadOptions) (api.ReloadResult, error) {
	f.Record("reload%s", map[bool]string{true: " force"}[o.Force])
	return f.ReloadResult, f.Err
}

func (f *Fake) Alarms(context.Context) ([]api.Alarm, error) { return f.AlarmList, f.Err }

func (f *Fake) FreezeHealth(_ context.Context, service string, frozen bool) ([]string, error) {
	f.Record("freeze %q %v", service, frozen)
	return f.Frozen, f.Err
}

func (f *Fake) Stuck() error { return f.StuckWorker }

func (f *Fake) Done() <-chan struct{} { return f.Ended }

func (f *Fake) Close() error {
	f.Record("close")
	return nil
}
