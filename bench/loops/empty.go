package loops

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"sluice/conf"
	"sluice/engine/platform/linux"
	"sluice/engine/route"
	"sluice/engine/steer"
	"sluice/engine/tokernel"
	"sluice/engine/worker"
	"sluice/pipeline"
	"sluice/pipeline/counter"
	"sluice/pipeline/flow"
	"sluice/pipeline/packet"
	"sluice/pipeline/service"
)

// The default of engine.batch.
const batch = 64

// empty is the engine's worker and platform with another function in place of the pipeline.
type empty struct {
	kernel  *linux.Kernel
	path    *tokernel.Path
	workers *worker.Set
	tables  atomic.Pointer[pipeline.Tables]
	macs    [12]byte // destination, source
}

func newEmpty(c Config) (*empty, error) {
	log := slog.New(slog.DiscardHandler)
	e := &empty{kernel: linux.New(log, false, nil)}
	copy(e.macs[:6], c.To)
	copy(e.macs[6:], c.Source)
	if err := e.start(c, log); err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}

// start takes the steps of engine.Start that concern frames.
func (e *empty) start(c Config, log *slog.Logger) error {
	cores, err := e.kernel.Cores([]int{c.CPU})
	if err != nil {
		return err
	}
	ports := []conf.Port{{Name: c.In, IO: conf.IOAuto}, {Name: c.Out, IO: conf.IOAuto}}
	rules := steered(c)
	if err := e.kernel.Follow(ports, func(s *route.Snapshot) {
		if rules.Stations == nil {
			for _, p := range s.Ports {
				rules.Stations = append(rules.Stations, steer.Station{Ifindex: p.Ifindex, MAC: p.MAC})
			}
		}
	}); err != nil {
		return err
	}
	hardware, err := e.kernel.Open(ports, len(cores))
	if err != nil {
		return err
	}
	if err := e.kernel.Steer(rules); err != nil {
		return err
	}
	if e.path, err = tokernel.New(len(cores), e.kernel, func() {}, log); err != nil {
		return err
	}
	e.tables.Store(pipeline.NewTables(nil, nil, nil, nil, nil, nil))
	if e.workers, err = worker.New(worker.Options{
		Cores: cores, Batch: batch, Connections: 1024, Hardware: hardware, Memory: e.kernel.Memory,
		Seed: new(flow.Seed), Loads: counter.NewLoads(len(cores), 1), Turns: counter.NewTurns(len(cores), 1),
		Tables: &e.tables, Kernel: e.path, Resolve: func(packet.Addr) {}, Log: log, Bypass: e.forward,
	}); err != nil {
		return err
	}
	return e.workers.Launch()
}

// out is the port that frames go to.
const out = 1

// forward is called by the worker in place of the pipeline.
func (e *empty) forward(frames []pipeline.Frame) {
	for i := range frames {
		f := &frames[i]
		copy(f.Mem[f.Start:f.End], e.macs[:])
		f.Verdict, f.Port = pipeline.Forward, out
	}
}

// steered returns the rules of a balancer with a service on each port.
func steered(c Config) (r steer.Rules) {
	for i := range c.Ports {
		port := c.FirstPort + uint16(i)
		for _, protocol := range []service.Protocol{service.UDP, service.TCP} {
			r.Services = append(r.Services, service.Key{
				Address: netip.MustParseAddr(c.Address), Ports: service.Ports{First: port, Last: port}, Protocol: protocol,
			})
		}
	}
	return r
}

func (e *empty) turn(wake <-chan struct{}) error {
	select {
	case <-wake:
		return nil
	case <-e.workers.Failed():
		return errors.New("the worker has failed")
	}
}

// countersTimeout is how long the worker may take to answer.
const countersTimeout = 5 * time.Second

func (e *empty) counters() (c Counters, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), countersTimeout)
	defer cancel()
	err = e.workers.OnAll(ctx, func(w *worker.Worker) {
		n := w.Counters(e.kernel)
		c.Turns, c.Frames, c.Syscalls = n.BusyTurns, n.Frames, n.Sleeps
		for _, q := range n.Queues {
			c.Sent += q.Tx
			c.Syscalls += q.Platform.Syscalls
		}
	})
	return c, err
}

func (e *empty) close() error {
	err := e.workers.Close()
	if errors.As(err, new(worker.Hung)) {
		return err // what a worker may still use cannot be freed
	}
	if e.path != nil {
		err = errors.Join(err, e.path.Close())
	}
	return errors.Join(err, e.kernel.Close())
}
