package rings

import (
	"fmt"
	"sync/atomic"
)

// needWakeup is XDP_RING_NEED_WAKEUP of include/uapi/linux/if_xdp.h.
const needWakeup = 1

// The four rings that an AF_XDP socket shares with the kernel.
type (
	// FillRing gives the driver chunk addresses to receive into.
	FillRing = ToKernel[uint64]
	// TxRing gives the driver frames to send.
	TxRing = ToKernel[Desc]
	// RxRing brings received frames.
	RxRing = FromKernel[Desc]
	// CompletionRing brings back the chunk addresses of frames that were sent.
	CompletionRing = FromKernel[uint64]
)

// Memory is where a shared ring lives. Map finds it in a mapping of a socket, NewMemory makes it on
// the heap.
type Memory[T uint64 | Desc] struct {
	Producer *uint32 // written by the producer only
	Consumer *uint32 // written by the consumer only
	Flags    *uint32 // written by the kernel only
	Entries  []T     // written by the producer, len is a power of two
}

// NewMemory makes a ring's memory of n entries on the heap, for a kernel played by other code.
func NewMemory[T uint64 | Desc](n int) Memory[T] {
	return Memory[T]{Producer: new(uint32), Consumer: new(uint32), Flags: new(uint32), Entries: make([]T, n)}
}

// check says what makes m unusable, nil if nothing does.
func (m Memory[T]) check() error {
	if m.Producer == nil || m.Consumer == nil || m.Flags == nil {
		return fmt.Errorf("rings: memory without producer, consumer or flags word")
	}
	n := len(m.Entries)
	if n < 1 || n > maxCapacity || n&(n-1) != 0 {
		return fmt.Errorf("rings: %d entries, allowed are powers of two up to %d", n, maxCapacity)
	}
	return nil
}

// ToKernel is our end of a ring that we produce into and the kernel consumes from. It belongs to
// one goroutine at a time.
//
// The kernel's index is not trusted: one that claims more than we ever put in is ignored, the last
// good one stays in force, and slots are always computed from our own index.
type ToKernel[T uint64 | Desc] struct {
	memory Memory[T]
	next   uint32 // our index: equals *memory.Producer between calls
	taken  uint32 // the kernel's index when last looked at; next - taken <= len(Entries)
}

// NewToKernel takes up the producing end of a ring where its memory says it stands. It fails if the
// number of entries is no power of two or the indices contradict each other.
func NewToKernel[T uint64 | Desc](m Memory[T]) (*ToKernel[T], error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	next := atomic.LoadUint32(m.Producer)
	taken := atomic.LoadUint32(m.Consumer)
	if next-taken > uint32(len(m.Entries)) {
		return nil, fmt.Errorf("rings: producer index %d, consumer index %d in a ring of %d", next, taken, len(m.Entries))
	}
	return &ToKernel[T]{memory: m, next: next, taken: taken}, nil
}

// Push puts as many of src as there is room for, from the front, shows them to the kernel, and says
// how many.
func (r *ToKernel[T]) Push(src []T) int {
	size := uint32(len(r.memory.Entries))
	if uint64(size-(r.next-r.taken)) < uint64(len(src)) {
		r.look()
	}
	n := min(uint64(len(src)), uint64(size-(r.next-r.taken)))
	if n == 0 {
		return 0
	}
	put(r.memory.Entries, uint64(r.next&(size-1)), src[:n])
	r.next += uint32(n)
	atomic.StoreUint32(r.memory.Producer, r.next)
	return int(n)
}

// Free is how many entries Push would take now; the kernel can only make it more.
func (r *ToKernel[T]) Free() int { return len(r.memory.Entries) - r.Queued() }

// Queued is how many entries the kernel has not taken yet; the kernel can only make it less.
func (r *ToKernel[T]) Queued() int {
	if r.taken != r.next { // else the ring was seen empty, and only Push changes that
		r.look()
	}
	return int(r.next - r.taken)
}

// NeedWakeup says whether the kernel will not look at the ring unless it is called. Asked after
// Push, it misses nothing: the kernel sets the flag before it looks at the ring for the last time.
func (r *ToKernel[T]) NeedWakeup() bool { return atomic.LoadUint32(r.memory.Flags)&needWakeup != 0 }

// Cap is the ring's capacity in entries.
func (r *ToKernel[T]) Cap() int { return len(r.memory.Entries) }

// look reads the kernel's index and keeps it unless it is impossible.
func (r *ToKernel[T]) look() {
	if taken := atomic.LoadUint32(r.memory.Consumer); r.next-taken <= uint32(len(r.memory.Entries)) {
		r.taken = taken
	}
}

// FromKernel is our end of a ring that the kernel produces into and we consume from. It belongs to
// one goroutine at a time.
//
// The kernel's index is not trusted: one that claims more than the ring holds, or less than we have
// taken, is ignored, the last good one stays in force, and slots are always computed from our own
// index.
type FromKernel[T uint64 | Desc] struct {
	memory Memory[T]
	next   uint32 // our index: equals *memory.Consumer between calls
	ready  uint32 // the kernel's index when last looked at; ready - next <= len(Entries)
}

// NewFromKernel takes up the consuming end of a ring where its memory says it stands. It fails if
// the number of entries is no power of two or the indices contradict each other.
func NewFromKernel[T uint64 | Desc](m Memory[T]) (*FromKernel[T], error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	next := atomic.LoadUint32(m.Consumer)
	ready := atomic.LoadUint32(m.Producer)
	if ready-next > uint32(len(m.Entries)) {
		return nil, fmt.Errorf("rings: producer index %d, consumer index %d in a ring of %d", ready, next, len(m.Entries))
	}
	return &FromKernel[T]{memory: m, next: next, ready: ready}, nil
}

// Pop fills dst from the front with the oldest entries, gives their slots back to the kernel, and
// says how many.
func (r *FromKernel[T]) Pop(dst []T) int {
	if uint64(r.ready-r.next) < uint64(len(dst)) {
		r.look()
	}
	n := min(uint64(len(dst)), uint64(r.ready-r.next))
	if n == 0 {
		return 0
	}
	take(dst[:n], r.memory.Entries, uint64(r.next&uint32(len(r.memory.Entries)-1)))
	r.next += uint32(n)
	atomic.StoreUint32(r.memory.Consumer, r.next)
	return int(n)
}

// Available is how many entries Pop could take now; the kernel can only make it more.
func (r *FromKernel[T]) Available() int {
	r.look()
	return int(r.ready - r.next)
}

// Cap is the ring's capacity in entries.
func (r *FromKernel[T]) Cap() int { return len(r.memory.Entries) }

// look reads the kernel's index and keeps it unless it is impossible.
func (r *FromKernel[T]) look() {
	if ready := atomic.LoadUint32(r.memory.Producer); ready-r.next <= uint32(len(r.memory.Entries)) {
		r.ready = ready
	}
}
