package rings

import (
	"fmt"
	"math/bits"
	"sync/atomic"
)

// maxCapacity bounds NewSPSC against sizes that can only be a mistake.
const maxCapacity = 1 << 30

// lineBytes is what separates two things that different CPUs write: two cache lines, because x86
// fetches them in pairs.
const lineBytes = 128

// Producer is the putting side of an SPSC ring. It belongs to one goroutine at a time.
//
// Push is Insert followed by Publish; a producer that gathers several small batches calls Insert
// for each and Publish once, before it turns to other work.
//
// What the consumer reads is apart from what the producer alone uses: a consumer that waits for
// entries reads its line all the time, and each write to that line costs the producer a trip to the
// other CPU.
type Producer[T any] struct {
	published atomic.Uint64 // entries the consumer may take; written here, read by the consumer
	_         [lineBytes - 8]byte

	inserted uint64 // entries written to slots, published or not
	taken    uint64 // the consumer's index when last looked at
	slots    []T    // shared with the consumer; len is a power of two
	consumer *Consumer[T]
	_        [lineBytes - 48]byte
}

// Consumer is the taking side of an SPSC ring. It belongs to one goroutine at a time.
type Consumer[T any] struct {
	released atomic.Uint64 // entries whose slots the producer may overwrite; written here, read by the producer
	_        [lineBytes - 8]byte

	took     uint64 // the same, for the consumer itself
	ready    uint64 // the producer's index when last looked at
	slots    []T    // shared with the producer; len is a power of two
	producer *Producer[T]
	_        [lineBytes - 48]byte
}

// NewSPSC makes a ring for n entries, rounded up to a power of two, and returns its two ends. T
// should be a plain value (see Desc): a slot keeps what was in it until it is overwritten, pointers
// included. It panics if n is less than 1 or more than 2^30.
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

// Push puts as many of src as there is room for, from the front, and says how many. The consumer
// sees them at once.
func (p *Producer[T]) Push(src []T) int {
	n := p.Insert(src)
	p.Publish()
	return n
}

// Insert puts as many of src as there is room for, from the front, and says how many. The consumer
// doesn't see them before Publish.
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

// Publish shows the consumer everything inserted so far. Without news it does nothing.
func (p *Producer[T]) Publish() {
	if p.published.Load() != p.inserted {
		p.published.Store(p.inserted)
	}
}

// Free is how many entries Insert would take now; the consumer can only make it more.
func (p *Producer[T]) Free() int {
	p.taken = p.consumer.released.Load()
	return len(p.slots) - int(p.inserted-p.taken)
}

// Cap is the ring's capacity in entries.
func (p *Producer[T]) Cap() int { return len(p.slots) }

// Pop fills dst from the front with the oldest published entries, and says how many there were.
// Their slots are given back to the producer before it returns: dst holds copies.
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

// Len is how many entries Pop could take now; the producer can only make it more.
func (c *Consumer[T]) Len() int {
	c.ready = c.producer.published.Load()
	return int(c.ready - c.took)
}

// Cap is the ring's capacity in entries.
func (c *Consumer[T]) Cap() int { return len(c.slots) }

// put copies src into the ring of slots beginning at slot at, going round at its end. len(src) is
// at most len(slots).
func put[T any](slots []T, at uint64, src []T) {
	n := copy(slots[at:], src)
	copy(slots, src[n:])
}

// take copies len(dst) entries out of the ring of slots beginning at slot at, going round at its
// end.
func take[T any](dst []T, slots []T, at uint64) {
	n := copy(dst, slots[at:])
	copy(dst[n:], slots)
}
