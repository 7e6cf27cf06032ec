package engine

import (
	"context"
	"time"

	"sluice/engine/worker"
)

// reopenPause is the time between two attempts to open a port again.
const reopenPause = time.Second

// followPorts closes the queues of interfaces that were removed and opens those of new interfaces
// of the same name, until ctx ends. Drivers and operators remove and make interfaces; the daemon
// then needs no restart.
func (e *Engine) followPorts(ctx context.Context) {
	defer e.running.Done()
	for {
		e.mu.Lock()
		s, changed := e.surroundings, e.changed
		e.mu.Unlock()
		retry := false
		for i, p := range s.Ports {
			ifindex := 0
			if p.Exists {
				ifindex = p.Ifindex
			}
			if e.hardware.Ports[i].Ifindex != ifindex {
				retry = e.replacePort(ctx, i, ifindex) || retry
			}
		}
		timer := time.NewTimer(reopenPause)
		if !retry {
			timer.Stop()
		}
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// replacePort closes the queues of a port that has lost its interface and opens those of its new
// interface. An ifindex of 0 stands for no new interface. retry reports whether opening has
// to be tried again.
func (e *Engine) replacePort(ctx context.Context, port, ifindex int) (retry bool) {
	hw := &e.hardware.Ports[port]
	if hw.Ifindex != 0 {
		if e.workers.OnAll(ctx, func(w *worker.Worker) { w.Disconnect(port) }) != nil {
			return false // closing down
		}
		frames, err := e.platform.ClosePort(port)
		if err != nil {
			e.log.Warn("port did not close cleanly", "port", hw.Name, "err", err)
		}
		e.mu.Lock()
		hw.Ifindex = 0
		e.mu.Unlock()
		if w := e.workers.All[0]; w.Do(ctx, func() { w.Free(frames) }) != nil {
			return false
		}
	}
	if ifindex == 0 {
		return false
	}
	opened, err := e.platform.OpenPort(port)
	if err != nil {
		e.log.Error("port does not open again; next attempt in "+reopenPause.String(), "event", "port_failed", "port", hw.Name, "err", err)
		return true
	}
	err = e.workers.OnAll(ctx, func(w *worker.Worker) { w.Connect(port, opened) })
	e.mu.Lock()
	hw.Ifindex, hw.IO, hw.RSS = opened.Ifindex, opened.IO, opened.RSS
	e.mu.Unlock()
	return err != nil && ctx.Err() == nil
}
