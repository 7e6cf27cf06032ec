package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"sluice/engine/cpu"
	"sluice/engine/platform"
	"sluice/pipeline"
	"sluice/pipeline/counter"
	"sluice/pipeline/flow"
	"sluice/pipeline/packet"
	"sluice/rings"
)

// machineOptions is what a set of workers is made from.
type machineOptions struct {
	cores       []int
	batch       int
	connections int
	busyPoll    bool
	hardware    *platform.Hardware
	memory      func(bytes, core int) ([]byte, error)
	seed        *flow.Seed
	loads       *counter.Loads
	tables      *atomic.Pointer[pipeline.Tables]
	want        func(packet.Addr)
	log         *slog.Logger
}

// newWorkers makes the workers and wires them up; none runs yet.
func newWorkers(o machineOptions) ([]*Worker, error) {
	n := len(o.cores)
	frames := len(o.hardware.UMEM) / platform.FrameSize / n
	workers := make([]*Worker, n)
	for i := range workers {
		w, err := o.newWorker(i, frames)
		if err != nil {
			for _, made := range workers[:i] {
				err = errors.Join(err, made.close())
			}
			return nil, err
		}
		workers[i] = w
	}
	wire(workers, frames)
	for port, hw := range o.hardware.Ports {
		for i, q := range hw.Queues {
			w := workers[cpu.WorkerOf(i, n)]
			w.queues = append(w.queues, &ownQueue{Queue: q.Queue, name: hw.Name, port: uint8(port), index: i, number: q.Number})
		}
	}
	for _, w := range workers {
		w.connectPorts(o.hardware.Ports, n)
	}
	return workers, nil
}

func (o *machineOptions) newWorker(id, frames int) (*Worker, error) {
	n := len(o.cores)
	connections := (o.connections + n - 1) / n
	var tables [2][]byte
	for i, family := range []int{4, 6} {
		mem, err := o.memory(pipeline.TableBytes(family, connections), o.cores[id])
		if err != nil {
			return nil, fmt.Errorf("table for %d IPv%d connections of worker %d: %w: lower [engine] connections", connections, family, id, err)
		}
		tables[i] = mem
	}
	sleeper, err := cpu.NewSleeper()
	if err != nil {
		return nil, err
	}
	w := &Worker{
		id: id, cpu: o.cores[id], batch: o.batch, log: o.log.With("worker", id),
		umem:    o.hardware.UMEM,
		stock:   newStock(id, n, frames),
		egress:  make([]egress, len(o.hardware.Ports)),
		handOut: make([]outbox, n),
		handIn:  make([]*rings.Consumer[rings.Desc], n),
		tables:  o.tables,
		work:    new(pipeline.Batch),
		addrs:   make([]uint64, pipeline.MaxBatch),
		descs:   make([]rings.Desc, pipeline.MaxBatch),
		sleeper: sleeper,
		mailbox: make(chan func(), 1),
		done:    make(chan struct{}),
		want:    o.want,
		poll:    !o.busyPoll,
		handed:  max(1, o.batch/2),
	}
	w.proc = pipeline.New(pipeline.Options{
		Worker: id, Workers: n, Connections: connections, Seed: o.seed, Loads: o.loads,
		Mem4: tables[0], Mem6: tables[1],
	})
	w.bell.wake = sleeper.Wake
	// Room for a whole batch, and for what every other worker may hand over in the same turn.
	room := o.batch * (n + 1)
	for i := range w.egress {
		for as := range w.egress[i].descs {
			w.egress[i].descs[as] = make([]rings.Desc, 0, room)
		}
	}
	for i := range w.handOut {
		w.handOut[i].descs = make([]rings.Desc, 0, room)
	}
	return w, nil
}

// connectPorts finds for each port the queue that the worker sends by, or the worker that sends for
// it.
func (w *Worker) connectPorts(ports []platform.HardwarePort, workers int) {
	for _, q := range w.queues {
		if e := &w.egress[q.port]; e.queue == nil {
			e.queue = q
		}
	}
	w.watch()
	for i := range w.egress {
		w.egress[i].relay = -1
		if n := len(ports[i].Queues); n > 0 {
			w.egress[i].relay = w.id % min(n, workers)
		}
	}
}
