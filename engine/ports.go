package engine

import (
	"context"
	"time"

	"sluice/engine/platform"
	"sluice/rings"
)

// reopenPause is how long a port that can't be opened again waits for the next attempt.
const reopenPause = time.Second

// keepPorts closes the queues of interfaces that have gone and takes those of interfaces of the
// same name that have come, until Close. Deleting and making an interface again, as drivers and
// operators do, thus costs no restart.
func (e *Engine) keepPorts(ctx context.Context) {
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

// replacePort gives up the queues of an interface that is gone and, if there is a new one, takes
// its. It reports whether that has to be tried again.
func (e *Engine) replacePort(ctx context.Context, port, ifindex int) (retry bool) {
	hw := &e.hardware.Ports[port]
	if hw.Ifindex != 0 {
		if e.onWorkers(ctx, func(w *Worker) { w.disconnect(port) }) != nil {
			return false // closing down
		}
		frames, err := e.platform.ClosePort(port)
		if err != nil {
			e.log.Warn("port did not close cleanly", "port", hw.Name, "err", err)
		}
		e.mu.Lock()
		hw.Ifindex = 0
		e.mu.Unlock()
		if e.workers[0].Do(ctx, func() { e.workers[0].takeBack(frames) }) != nil {
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
	err = e.onWorkers(ctx, func(w *Worker) { w.connect(port, opened) })
	e.mu.Lock()
	hw.Ifindex, hw.IO, hw.RSS = opened.Ifindex, opened.IO, opened.RSS
	e.mu.Unlock()
	return err != nil && ctx.Err() == nil
}

// disconnect puts queues that do nothing in place of the port's. Called on the worker.
func (w *Worker) disconnect(port int) {
	for _, q := range w.queues {
		if int(q.port) == port {
			q.Queue = noQueue{}
			q.reclaimed = q.tx
		}
	}
	w.watch()
}

// connect puts the port's new queues in place. Called on the worker.
func (w *Worker) connect(port int, hw *platform.HardwarePort) {
	for _, q := range w.queues {
		if int(q.port) == port {
			q.Queue = hw.Queues[q.index].Queue
		}
	}
	w.watch()
	w.idle = 0 // turns to come give the new queues their frames
}

// takeBack takes the frames that a closed queue had; those of other workers travel home. Called on
// the worker.
func (w *Worker) takeBack(frames []uint64) {
	for _, addr := range frames {
		w.stock.give(addr)
	}
}

// watch has sleeps end when one of the queues has frames.
func (w *Worker) watch() {
	fds := make([]int, len(w.queues))
	for i, q := range w.queues {
		fds[i] = q.FD()
	}
	w.sleeper.Watch(fds)
}

// noQueue is the queue of an interface that is not there: it takes nothing and has nothing.
type noQueue struct{}

func (noQueue) Receive([]rings.Desc) int  { return 0 }
func (noQueue) Refill([]uint64) int       { return 0 }
func (noQueue) Transmit([]rings.Desc) int { return 0 }
func (noQueue) Kick() error               { return nil }
func (noQueue) Reclaim([]uint64) int      { return 0 }
func (noQueue) FD() int                   { return -1 }
