package worker

import (
	"sync/atomic"

	"sluice/rings"
)

// handOverSlots is the capacity of each worker-to-worker ring: several batches, so that no packets
// are lost while a worker is busy with a batch of its own.
const handOverSlots = 1024

// Options of a frame's descriptor on a hand-over ring.
const (
	portBits = 0xff // ingress port, or egress port if transmitBit is set
	hopShift = 8
	hopBits  = 0xff << hopShift
	// transmitBit marks a frame that is finished and only has to be transmitted: the worker that
	// finished it has no queue on the egress port.
	transmitBit = 1 << 16
	// countedShift is the first bit of the frame's counter (forwarded, replied, originated) if
	// transmitBit is set.
	countedShift = 17
	// notedBit: the flow of a fragment is noted in front of the frame, see pipeline.Frame. It is
	// not set together with transmitBit.
	notedBit = 1 << 20
)

// wire connects every pair of workers with two rings: one takes frames to the owner of their flow,
// the other returns them to their origin after they were transmitted.
func wire(workers []*Worker) {
	for _, from := range workers {
		for _, to := range workers {
			if from == to {
				continue
			}
			from.handOut[to.id].ring, to.handIn[from.id] = rings.NewSPSC[rings.Desc](handOverSlots)
			from.frames.out[to.id], to.frames.in[from.id] = rings.NewSPSC[uint64](max(1, to.frames.count))
			from.handOut[to.id].waker = &to.waker
		}
	}
}

// outbox collects the frames that one turn hands to one other worker, so that they are pushed at
// once.
type outbox struct {
	ring  *rings.Producer[rings.Desc]
	waker *waker
	descs []rings.Desc
}

// waker wakes a worker that sleeps in poll(2). It makes a system call only while the worker sleeps.
//
// The worker sets asleep, then checks everything that could hold work, then polls. The other
// goroutine makes its work visible, then checks asleep. Both are sequentially consistent, so at
// least one of them sees what the other did.
type waker struct {
	asleep atomic.Bool
	write  func() // writes the eventfd that the worker polls; any goroutine may call it
}

// wake ends the sleep of the worker. Any goroutine may call it.
func (k *waker) wake() {
	if k.asleep.Load() {
		k.write()
	}
}
