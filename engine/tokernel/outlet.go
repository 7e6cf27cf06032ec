package tokernel

import (
	"sluice/engine/platform"
	"sluice/pipeline/counter"
	"sluice/rings"
)

// Limits of one worker. The rate is about what backends need that resolve names, keep time and log
// over UDP; the kernel spends some microseconds on each packet.
const (
	PerSecond = 10_000 // packets in the long run
	Burst     = 1_000
	slots     = 256 // of the ring
)

// Outlet is a worker's end of a Path. It belongs to the worker's goroutine.
type Outlet struct {
	path  *Path
	ring  *rings.Producer[copied]
	mem   []byte // twice as many copies as the ring has slots
	next  uint32 // the copy to be written next
	limit counter.Limiter
}

// copied is where in an Outlet's memory a copy of a packet is. The worker writes copies in turn.
// The goroutine of the Path still reads the one that it took last, which is at most slots behind:
// with twice as many, it is never written meanwhile.
type copied struct{ at, length uint32 }

// Put gives the kernel a copy of a packet. If it cannot, it returns the reason, which is otherwise
// if there is no device.
func (o *Outlet) Put(packet []byte, nowMs uint32, otherwise counter.Reason) counter.Reason {
	if !o.path.usable.Load() {
		return otherwise
	}
	if !o.limit.Allow(nowMs, PerSecond, Burst) {
		return counter.KernelLimit
	}
	if o.ring.Free() == 0 {
		return counter.KernelFull
	}
	at := o.next * platform.FrameSize
	one := [1]copied{{at, uint32(copy(o.mem[at:at+platform.FrameSize], packet))}}
	o.ring.Push(one[:])
	o.next = (o.next + 1) % (2 * slots)
	o.wake()
	return counter.None
}

// wake ends the sleep of the Path's goroutine, which sets asleep, then looks for packets, then
// sleeps. One worker wakes it once per sleep.
func (o *Outlet) wake() {
	if p := o.path; p.asleep.Load() && p.asleep.CompareAndSwap(true, false) {
		p.sleeper.Wake()
	}
}
