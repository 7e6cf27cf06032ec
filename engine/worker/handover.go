package worker

import (
	"sync/atomic"

	"sluice/rings"
)

// handOverSlots is the capacity of each worker-to-worker ring: several batches, so that a worker
// that is busy with one of its own doesn't cost packets.
const handOverSlots = 1024

// A frame on a hand-over ring carries in its descriptor's Options what the frame itself doesn't
// tell.
const (
	portBits = 0xff // ingress port, or egress port if transmitBit is set
	hopShift = 8
	hopBits  = 0xff << hopShift
	// transmitBit marks a frame that is finished and only has to be sent: the worker that finished
	// it has no queue on the egress port.
	transmitBit = 1 << 16
	// bookedShift is where, beside transmitBit, it says what the frame was booked as.
	bookedShift = 17
)

// wire connects every pair of workers with the rings that frames travel on: forth to their flow's
// owner, and home again when they are sent.
func wire(workers []*Worker, framesPerWorker int) {
	for _, from := range workers {
		for _, to := range workers {
			if from == to {
				continue
			}
			from.handOut[to.id].ring, to.handIn[from.id] = rings.NewSPSC[rings.Desc](handOverSlots)
			from.stock.out[to.id], to.stock.in[from.id] = rings.NewSPSC[uint64](framesPerWorker)
			from.handOut[to.id].bell = &to.bell
		}
	}
}

// outbox collects what one turn hands to one other worker, so that it is published once.
type outbox struct {
	ring  *rings.Producer[rings.Desc]
	bell  *bell
	descs []rings.Desc
}

// bell wakes a worker that sleeps in poll. Ringing costs a system call only while the worker
// sleeps.
//
// The sleeper sets asleep, then looks at everything that could hold work, then polls; the ringer
// makes work visible, then looks at asleep. Both are sequentially consistent, so one of them sees
// the other.
type bell struct {
	asleep atomic.Bool
	wake   func() // writes the eventfd that the sleeper polls; any goroutine
}

func (b *bell) ring() {
	if b.asleep.Load() {
		b.wake()
	}
}
