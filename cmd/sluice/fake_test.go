package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"sluice/engine/api"
	"sluice/engine/api/apitest"
)

// fake is an engine that answers from its fields and remembers what it was told.
type fake struct {
	stuck           atomic.Bool // a worker hangs
	api.Diagnostics             // none
	api.Changes                 // none

	mu       sync.Mutex
	services []api.Service
	conns    []api.Conn
	stats    api.Stats
	reload   api.ReloadResult
	alarms   []api.Alarm
	frozen   []string
	remark   string // Backend.Note in answers to SetWeight
	err      error
	told     []string
	done     chan struct{}
}

func newFake() *fake {
	return &fake{
		done: make(chan struct{}),
		services: []api.Service{
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
		conns: []api.Conn{{Service: "web", Protocol: "tcp", Client: "10.1.1.1:50000", Virtual: "198.51.100.10:80",
			Backend: "10.0.0.11:8080", State: "ESTABLISHED", Mode: "nat", ExpiresS: 897.5, Worker: 1}},
		stats: api.Stats{Version: "0.1", UptimeS: 3723, Rx: 100, Forwarded: 90, Replied: 3,
			Drops:   map[string]uint64{"short": 0, "no_backend": 5, "ttl_expired": 2},
			Workers: []api.WorkerStats{{Worker: 0, CPU: 3, Rx: 100, BusyShare: 0.25, PacketsPerBatch: 12.34, SyscallsPerPacket: 0.0156}},
			Ports: []api.PortStats{{Name: "eth0", IO: api.IOZeroCopy, Up: true, MTU: 1500, Queues: []api.QueueStats{{Queue: 0, Rx: 100}}},
				{Name: "eth1", IO: api.IOGeneric}},
			Frames: api.FrameStats{Total: 4096, Free: 2048, Fill: 2048}, Tables: api.TableStats{ConnectionsV4: 1, Capacity: 1 << 20}},
	}
}

func (f *fake) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = append(f.told, fmt.Sprintf(format, args...))
}

// heard is what the fake was told since the last call.
func (f *fake) heard() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	told := strings.Join(f.told, "; ")
	f.told = nil
	return told
}

func (f *fake) List(context.Context) ([]api.Service, error) { return f.services, f.err }
func (f *fake) Stats(context.Context) (api.Stats, error)    { return f.stats, f.err }

func (f *fake) Conns(_ context.Context, q api.ConnQuery) ([]api.Conn, error) {
	f.note("conns %s|%s|%s|%d", q.Service, q.Client, q.Backend, q.Limit)
	return f.conns, f.err
}

func (f *fake) SetWeight(_ context.Context, service, backend string, weight int) (api.Backend, error) {
	f.note("weight %s %s %d", service, backend, weight)
	if f.err != nil {
		return api.Backend{}, f.err
	}
	b := f.services[0].Backends[0]
	b.Weight, b.ConfiguredWeight = weight, 1
	if weight == 0 {
		b.State = api.StateDrain
	}
	b.Note = f.remark
	return b, nil
}

func (f *fake) Override(_ context.Context, r api.OverrideRequest) (api.Backend, error) {
	f.note("%s %s %s %v", r.State, r.Service, r.Backend, r.DeadlineS)
	if f.err != nil {
		return api.Backend{}, f.err
	}
	b := f.services[0].Backends[0]
	b.ConfiguredWeight, b.Override = 1, r.State
	if r.State != api.OverrideEnable {
		b.Weight, b.State = 0, api.StateDrain
	}
	return b, nil
}

func (f *fake) Reload(_ context.Context, o api.ReloadOptions) (api.ReloadResult, error) {
	f.note("reload%s", map[bool]string{true: " force"}[o.Force])
	return f.reload, f.err
}

func (f *fake) Alarms(context.Context) ([]api.Alarm, error) { return f.alarms, f.err }

func (f *fake) FreezeHealth(_ context.Context, service string, frozen bool) ([]string, error) {
	f.note("freeze %q %v", service, frozen)
	return f.frozen, f.err
}

func (f *fake) Alive(context.Context) error {
	if f.stuck.Load() {
		return errors.New("worker 1 does not turn")
	}
	return nil
}

func (f *fake) Done() <-chan struct{} { return f.done }

func (f *fake) Close() error {
	f.note("close")
	return nil
}

// serve offers a control on a socket until the test ends.
func serve(t *testing.T, control api.Control) (socket string) {
	t.Helper()
	_, socket = apitest.Serve(t, control)
	return socket
}

// sluice runs one command line and gives its exit code and what it printed.
func sluice(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = execute(args, &out, &errs)
	return code, out.String(), errs.String()
}
