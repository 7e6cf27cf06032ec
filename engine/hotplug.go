package engine

import (
	"context"
	"time"

	"sluice/engine/worker"
)

// portPause is the time between two looks at the ports, and between two attempts to open one again.
const portPause = time.Second

// followPorts closes the queues of interfaces that were removed and opens those of new interfaces
// of the same name, until ctx ends. Drivers and operators remove and make interfaces; the daemon
// then needs no restart. It also looks whether the ports still have their XDP programs.
func (e *Engine) followPorts(ctx context.Context) {
	defer e.running.Done()
	tick := time.NewTicker(portPause)
	defer tick.Stop()
	for {
		e.mu.Lock()
		s, changed := e.surroundings, e.changed
		e.mu.Unlock()
		for i, p := range s.Ports {
			ifindex := 0
			if p.Exists {
				ifindex = p.Ifindex
			}
			if e.hardware.Ports[i].Ifindex != ifindex {
				e.replacePort(ctx, i, ifindex)
			}
		}
		e.keepSteering()
		select {
		case <-changed:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// replacePort closes the queues of a port that has lost its interface and opens those of its new
// interface. An ifindex of 0 stands for no new interface. If it fails the port's ifindex
// remains 0, and followPorts tries again.
func (e *Engine) replacePort(ctx context.Context, port, ifindex int) {
	hw := &e.hardware.Ports[port]
	if hw.Ifindex != 0 {
		if e.workers.OnAll(ctx, func(w *worker.Worker) { w.Disconnect(port) }) != nil {
			return // closing down
		}
		frames, err := e.platform.ClosePort(port)
		if err != nil {
			e.log.Warn("port did not close cleanly", "port", hw.Name, "err", err)
		}
		e.mu.Lock()
		hw.Ifindex = 0
		e.mu.Unlock()
		if w := e.workers.All[0]; w.Do(ctx, func() { w.Free(frames) }) != nil {
			return
		}
	}
	if ifindex == 0 {
		return
	}
	opened, err := e.platform.OpenPort(port)
	if err != nil {
		e.log.Error("port does not open again; next attempt in "+portPause.String(), "event", "port_failed", "port", hw.Name, "err", err)
		return
	}
	// Fails when closing down.
	_ = e.workers.OnAll(ctx, func(w *worker.Worker) { w.Connect(port, opened) })
	e.mu.Lock()
	hw.Ifindex, hw.IO, hw.RSS = opened.Ifindex, opened.IO, opened.RSS
	e.mu.Unlock()
}
