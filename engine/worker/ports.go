package worker

import (
	"sluice/engine/platform"
	"sluice/rings"
)

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

// Disconnect puts queues that do nothing in place of the port's. Called on the worker.
func (w *Worker) Disconnect(port int) {
	for _, q := range w.queues {
		if int(q.port) == port {
			q.Queue = noQueue{}
			q.reclaimed = q.tx
		}
	}
	w.watch()
}

// Connect puts the port's new queues in place. Called on the worker.
func (w *Worker) Connect(port int, hw *platform.HardwarePort) {
	for _, q := range w.queues {
		if int(q.port) == port {
			q.Queue = hw.Queues[q.index].Queue
		}
	}
	w.watch()
	w.idle = 0 // turns to come give the new queues their frames
}

// TakeBack takes the frames that a closed queue had; those of other workers travel home. Called on
// the worker.
func (w *Worker) TakeBack(frames []uint64) {
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

// OpenPorts returns the ports of which the worker has the first queue, unless the interface is gone.
// It is called on the worker.
func (w *Worker) OpenPorts() (ports []int) {
	for _, q := range w.queues {
		if q.Queue != (noQueue{}) && q.index == 0 {
			ports = append(ports, int(q.port))
		}
	}
	return ports
}

// noQueue is the queue of an interface that is not there: it takes nothing and has nothing.
type noQueue struct{}

func (noQueue) Receive([]rings.Desc) int  { return 0 }
func (noQueue) Refill([]uint64) int       { return 0 }
func (noQueue) Transmit([]rings.Desc) int { return 0 }
func (noQueue) Kick() error               { return nil }
func (noQueue) Reclaim([]uint64) int      { return 0 }
func (noQueue) FD() int                   { return -1 }
