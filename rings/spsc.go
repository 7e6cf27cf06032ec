package rings

import (
	"fmt"
	"math/bits"
	"sync/atomic"
)

// maxCapacity bounds the capacity of a ring; a larger one is a mistake.
const maxCapacity = 1 << 30

// lineBytes separates data that different CPUs write: two cache lines, because x86 fetches them in
// pairs.
const lineBytes = 128

// Producer is the producing end of an SPSC ring. It belongs to one goroutine at a time.
//
// Push is Insert followed by Publish; a producer that collects several small batches calls Insert
// for each and Publish once, before it continues with other work.
//
// What the consumer reads is apart from what the producer alone uses: a consumer that waits for
// entries reads its line all the time, and each write to that line costs the producer a cache miss.
type Producer[T any] struct {
	// published: entries that the consumer may take; written here, read by the consumer
	published atomic.Uint64
	_         [lineBytes - 8]byte

	inserted uint64 // entries written to slots, published or not
	taken    uint64 // the consumer's index when last read
	slots    []T    // shared with the consumer; len is a power of two
	consumer *Consumer[T]
	_        [lineBytes - 48]byte
}

// Consumer is the consuming end of an SPSC ring. It belongs to one goroutine at a time.
type Consumer[T any] struct {
	// released: entries with slots that the producer may overwrite; written here, read by the
	// producer
	released atomic.Uint64
	_        [lineBytes - 8]byte

	took     uint64 // the same, for the consumer itself
	ready    uint64 // the producer's index when last read
	slots    []T    // shared with the producer; len is a power of two
	producer *Producer[T]
	_        [lineBytes - 48]byte
}

// NewSPSC makes a ring for n entries, rounded up to a power of two, and returns its two ends. T
// should be a plain value (see Desc): a slot keeps its last value, pointers included, until it is
// overwritten. It panics if n is less than 1 or more than 2^30.
func NewSPSC[T any](n int) (*Producer[T], *Consumer[T]) {
	if n < 1 || n > maxCapacity {
		panic(fmt.Sprintf("rings: SPSC capacity %d, allowed are 1 to %d", n, maxCapacity))
	}
	slots := make([]T, 1<<bits.Len(uint(n-1)))
	p := &Producer[T]{slots: slots}
	c := &Consumer[T]{slots: slots, producer: p}
	p.consumer = c
	return p, c
}

// Push puts as many entries of src as fit, from the front, and returns how many. The consumer sees
// them at once.
func (p *Producer[T]) Push(src []T) int {
	n := p.Insert(src)
	p.Publish()
	return n
}

// Insert puts as many entries of src as fit, from the front, and returns how many. The consumer
// sees them after Publish.
func (p *Producer[T]) Insert(src []T) int {
	size := uint64(len(p.slots))
	if size-(p.inserted-p.taken) < uint64(len(src)) {
		p.taken = p.consumer.released.Load()
	}
	n := min(uint64(len(src)), size-(p.inserted-p.taken))
	put(p.slots, p.inserted&(size-1), src[:n])
	p.inserted += n
	return int(n)
}

// Publish makes everything inserted so far visible to the consumer. It does nothing if nothing was
// inserted since the last call.
func (p *Producer[T]) Publish() {
	if p.published.Load() != p.inserted {
		p.published.Store(p.inserted)
	}
}

// Free returns how many entries Insert would take now; the consumer can only increase it.
func (p *Producer[T]) Free() int {
	p.taken = p.consumer.released.Load()
	return len(p.slots) - int(p.inserted-p.taken)
}

// Cap returns the ring's capacity in entries.
func (p *Producer[T]) Cap() int { return len(p.slots) }

// Pop fills dst from the front with the oldest published entries and returns how many there were.
// Their slots are free for the producer when it returns.
func (c *Consumer[T]) Pop(dst []T) int {
	size := uint64(len(c.slots))
	at := c.took
	if c.ready-at < uint64(len(dst)) {
		c.ready = c.producer.published.Load()
	}
	n := min(uint64(len(dst)), c.ready-at)
	if n == 0 {
		return 0
	}
	take(dst[:n], c.slots, at&(size-1))
	c.took = at + n
	c.released.Store(c.took)
	return int(n)
}

// Len returns how many entries Pop could take now; the producer can only increase it.
func (c *Consumer[T]) Len() int {
	c.ready = c.producer.published.Load()
	return int(c.ready - c.took)
}

// Cap returns the ring's capacity in entries.
func (c *Consumer[T]) Cap() int { return len(c.slots) }

// put copies src into the ring of slots from slot at on, wrapping around at the end. len(src) is at
// most len(slots).
func put[T any](slots []T, at uint64, src []T) {
	n := copy(slots[at:], src)
	copy(slots, src[n:])
}

// take copies len(dst) entries from the ring of slots from slot at on, wrapping around at the end.
func take[T any](dst []T, slots []T, at uint64) {
	n := copy(dst, slots[at:])
	copy(dst[n:], slots)
}
