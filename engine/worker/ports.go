package worker

import (
	"sluice/engine/platform"
	"sluice/rings"
)

// connectPorts sets for each port the queue that the worker transmits by, or the worker that
// transmits for it.
func (w *Worker) connectPorts(ports []platform.HardwarePort, workers int) {
	for _, q := range w.queues {
		if e := &w.egress[q.port]; e.queue == nil {
			e.queue = q
		}
	}
	w.pollQueues()
	for i := range w.egress {
		w.egress[i].relay = -1
		if n := len(ports[i].Queues); n > 0 {
			w.egress[i].relay = w.id % min(n, workers)
		}
	}
}

// Disconnect replaces the port's queues by ones that do nothing. It is called on the worker.
func (w *Worker) Disconnect(port int) {
	for _, q := range w.queues {
		if int(q.port) == port {
			q.Queue, q.heartbeat = closedQueue{}, nil
			q.reclaimed = q.counted.Tx
		}
	}
	w.pollQueues()
}

// Connect sets the port's new queues. It is called on the worker.
func (w *Worker) Connect(port int, hw *platform.HardwarePort) {
	for _, q := range w.queues {
		if int(q.port) == port {
			q.Queue, q.heartbeat = hw.Queues[q.index].Queue, hw.Queues[q.index].Heartbeat
			q.counted.begin(0, 0)
		}
	}
	w.pollQueues()
	w.idle = 0 // the next turns refill the new queues
}

// Free adds the frames that a closed queue had to the free frames, or returns them to the workers
// that are their origin. It is called on the worker.
func (w *Worker) Free(frames []uint64) {
	for _, addr := range frames {
		w.frames.put(addr)
	}
}

// pollQueues makes frames at any of the queues end the worker's sleep.
func (w *Worker) pollQueues() {
	fds := make([]int, len(w.queues))
	for i, q := range w.queues {
		fds[i] = q.FD()
	}
	w.sleeper.Watch(fds)
}

// OpenPorts returns the ports that are open and of which the worker has the first queue.
// It is called on the worker.
func (w *Worker) OpenPorts() (ports []int) {
	for _, q := range w.queues {
		if q.Queue != (closedQueue{}) && q.index == 0 {
			ports = append(ports, int(q.port))
		}
	}
	return ports
}

// closedQueue is the queue of an interface that is gone: it accepts no frames and has none.
type closedQueue struct{}

func (closedQueue) Receive([]rings.Desc) int  { return 0 }
func (closedQueue) Refill([]uint64) int       { return 0 }
func (closedQueue) Transmit([]rings.Desc) int { return 0 }
func (closedQueue) Kick() error               { return nil }
func (closedQueue) Reclaim([]uint64) int      { return 0 }
func (closedQueue) FD() int                   { return -1 }
