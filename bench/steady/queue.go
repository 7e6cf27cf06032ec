package steady

import (
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"sluice/engine/platform"
	"sluice/rings"
)

// headroom is what the kernel leaves free in front of a received frame (XDP_PACKET_HEADROOM,
// include/uapi/linux/bpf.h).
const headroom = 256

// queue is the only queue of the memory port. Frames arrive at fixed times: Receive returns those
// that are due, and Transmit notes for how long each was underway. No other thread is needed
// for that, which would have delays of its own. The worker's goroutine calls all methods; other
// goroutines use window.
type queue struct {
	umem   []byte
	clock  clock
	frames [][]byte // that arrive in turn

	every   int64   // ns between two arrivals
	due     int64   // when the next frame arrives; 0: not yet set
	next    int     // its index in frames
	arrival []int64 // by chunk: when its frame arrived; 0: the frame did not arrive

	fill, sent []uint64 // chunks

	window atomic.Pointer[window] // nil: nothing is noted
}

// window collects what happens between two moments. Only the worker's goroutine uses it while it is
// set.
type window struct {
	ns   *hdrhistogram.Histogram // for how long each frame was underway
	lost int                     // frames that found no chunk
}

const longestNs = int64(time.Minute)

// Receive implements platform.Queue.
func (q *queue) Receive(descs []rings.Desc) (n int) {
	now := q.clock.now()
	if q.due == 0 {
		q.due = now + q.every
	}
	for ; n < len(descs) && q.due <= now; q.due += q.every {
		frame := q.frames[q.next]
		if q.next++; q.next == len(q.frames) {
			q.next = 0
		}
		if len(q.fill) == 0 {
			if w := q.window.Load(); w != nil {
				w.lost++
			}
			continue
		}
		chunk := q.fill[len(q.fill)-1]
		q.fill = q.fill[:len(q.fill)-1]
		descs[n] = rings.Desc{Addr: chunk + headroom, Len: uint32(copy(q.umem[chunk+headroom:], frame))}
		q.arrival[chunk/platform.FrameSize] = q.due
		n++
	}
	return n
}

// Transmit implements platform.Queue.
func (q *queue) Transmit(descs []rings.Desc) int {
	if len(descs) == 0 {
		return 0
	}
	now, w := q.clock.now(), q.window.Load()
	for _, d := range descs {
		chunk := d.Addr / platform.FrameSize
		if at := q.arrival[chunk]; at != 0 && w != nil {
			_ = w.ns.RecordValue(min(now-at, longestNs)) // it fails for values out of range only
		}
		q.arrival[chunk] = 0
		q.sent = append(q.sent, chunk*platform.FrameSize)
	}
	return len(descs)
}

// Refill implements platform.Queue.
func (q *queue) Refill(chunks []uint64) int {
	n := min(len(chunks), cap(q.fill)-len(q.fill))
	q.fill = append(q.fill, chunks[:n]...)
	return n
}

// Reclaim implements platform.Queue.
func (q *queue) Reclaim(chunks []uint64) int {
	n := copy(chunks, q.sent)
	q.sent = q.sent[:copy(q.sent, q.sent[n:])]
	return n
}

// Kick implements platform.Queue.
func (q *queue) Kick() error { return nil }

// FD implements platform.Queue: the worker does not sleep.
func (q *queue) FD() int { return -1 }
