package rings

import (
	"fmt"
	"sync/atomic"
)

// needWakeup is XDP_RING_NEED_WAKEUP of include/uapi/linux/if_xdp.h.
const needWakeup = 1

// The four rings that an AF_XDP socket shares with the kernel.
type (
	// FillRing passes addresses of chunks to receive into to the driver.
	FillRing = ToKernel[uint64]
	// TxRing passes frames to send to the driver.
	TxRing = ToKernel[Desc]
	// RxRing returns received frames.
	RxRing = FromKernel[Desc]
	// CompletionRing returns the chunk addresses of frames that were sent.
	CompletionRing = FromKernel[uint64]
)

// Memory is the memory of a shared ring. Map finds it in a mapping of a socket, NewMemory makes it
// on the heap.
type Memory[T uint64 | Desc] struct {
	Producer *uint32 // written by the producer only
	Consumer *uint32 // written by the consumer only
	Flags    *uint32 // written by the kernel only
	Entries  []T     // written by the producer, len is a power of two
}

// NewMemory makes a ring's memory of n entries on the heap, for tests that take the kernel's part.
func NewMemory[T uint64 | Desc](n int) Memory[T] {
	return Memory[T]{Producer: new(uint32), Consumer: new(uint32), Flags: new(uint32), Entries: make([]T, n)}
}

// check returns why m is unusable, nil if it is usable.
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
// The kernel's index is not trusted: one above our own is ignored and the last valid one is used.
// Slots are always computed from our own index.
type ToKernel[T uint64 | Desc] struct {
	memory Memory[T]
	next   uint32 // our index: equals *memory.Producer between calls
	taken  uint32 // the kernel's index when last read; next - taken <= len(Entries)
}

// NewToKernel returns the producing end of a ring, at the present indices in its memory. It fails
// if the number of entries is not a power of two or the indices are inconsistent.
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

// Push puts as many entries of src as fit, from the front, makes them visible to the kernel, and
// returns how many.
func (r *ToKernel[T]) Push(src []T) int {
	size := uint32(len(r.memory.Entries))
	if uint64(size-(r.next-r.taken)) < uint64(len(src)) {
		r.readIndex()
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

// Free returns how many entries Push would take now; the kernel can only increase it.
func (r *ToKernel[T]) Free() int { return len(r.memory.Entries) - r.Queued() }

// Queued returns how many entries the kernel has not taken yet; the kernel can only decrease it.
func (r *ToKernel[T]) Queued() int {
	if r.taken != r.next { // else the ring is empty, and only Push changes that
		r.readIndex()
	}
	return int(r.next - r.taken)
}

// NeedWakeup reports whether the kernel must be woken by a system call to read the ring. Called
// after Push, it misses nothing: the kernel sets the flag before it reads the ring for the last
// time.
func (r *ToKernel[T]) NeedWakeup() bool { return atomic.LoadUint32(r.memory.Flags)&needWakeup != 0 }

// Cap returns the ring's capacity in entries.
func (r *ToKernel[T]) Cap() int { return len(r.memory.Entries) }

// readIndex reads the kernel's index and stores it unless it is invalid.
func (r *ToKernel[T]) readIndex() {
	if taken := atomic.LoadUint32(r.memory.Consumer); r.next-taken <= uint32(len(r.memory.Entries)) {
		r.taken = taken
	}
}

// FromKernel is our end of a ring that the kernel produces into and we consume from. It belongs to
// one goroutine at a time.
//
// The kernel's index is not trusted: one that would mean more entries than the ring has, or fewer
// than were taken, is ignored and the last valid one is used. Slots are always computed from our
// own index.
type FromKernel[T uint64 | Desc] struct {
	memory Memory[T]
	next   uint32 // our index: equals *memory.Consumer between calls
	ready  uint32 // the kernel's index when last read; ready - next <= len(Entries)
}

// NewFromKernel returns the consuming end of a ring, at the present indices in its memory. It fails
// if the number of entries is not a power of two or the indices are inconsistent.
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

// Pop fills dst from the front with the oldest entries, releases their slots to the kernel, and
// returns how many there were.
func (r *FromKernel[T]) Pop(dst []T) int {
	if uint64(r.ready-r.next) < uint64(len(dst)) {
		r.readIndex()
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

// Available returns how many entries Pop could take now; the kernel can only increase it.
func (r *FromKernel[T]) Available() int {
	r.readIndex()
	return int(r.ready - r.next)
}

// Cap returns the ring's capacity in entries.
func (r *FromKernel[T]) Cap() int { return len(r.memory.Entries) }

// readIndex reads the kernel's index and stores it unless it is invalid.
func (r *FromKernel[T]) readIndex() {
	if ready := atomic.LoadUint32(r.memory.Producer); ready-r.next <= uint32(len(r.memory.Entries)) {
		r.ready = ready
	}
}
