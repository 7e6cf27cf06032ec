package enginetest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"sluice/engine/platform"
	"sluice/rings"
)

// poison fills the chunks around received frames.
var poison = bytes.Repeat([]byte{0xa5}, platform.FrameSize)

// headroom is what the kernel leaves free in front of a received frame (XDP_PACKET_HEADROOM,
// include/uapi/linux/bpf.h).
const headroom = 256

// queue is an AF_XDP socket made of slices. The owning worker and the test use it at the same time.
type queue struct {
	umem   []byte
	ledger *ledger
	size   int // of each ring
	event  int // eventfd: readable while rx has frames

	mu         sync.Mutex // guards the fields below
	fill       []uint64
	rx, tx     []rings.Desc
	completion []uint64
	sent       [][]byte // on the wire
	stalled    bool     // the driver sends nothing
	closed     bool     // the engine must no longer use it
	turn       func()   // called by the worker in its next loop iteration
	kickErr    error    // returned by Kick
	counts     platform.QueueStats
}

func newQueue(umem []byte, l *ledger, size int) (*queue, error) {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	return &queue{umem: umem, ledger: l, size: size, event: fd}, nil
}

// Receive implements platform.Queue.
func (q *queue) Receive(descs []rings.Desc) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.checkOpen()
	if turn := q.turn; turn != nil {
		q.turn = nil
		q.mu.Unlock()
		defer q.mu.Lock() // in case of a panic
		turn()
		return 0
	}
	n := copy(descs, q.rx)
	for _, d := range q.rx[:n] {
		q.ledger.move(d.Addr, onRx, engineOwns)
	}
	q.rx = slices.Delete(q.rx, 0, n)
	if n > 0 && len(q.rx) == 0 {
		var count [8]byte
		_, _ = unix.Read(q.event, count[:]) // it fails only if the eventfd is 0, which is fine
	}
	return n
}

// Refill implements platform.Queue.
func (q *queue) Refill(addrs []uint64) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.checkOpen()
	n := min(len(addrs), q.size-len(q.fill))
	for _, addr := range addrs[:n] {
		if addr%platform.FrameSize != 0 {
			q.ledger.breach("fill ring is given %#x, which is not the start of a chunk", addr)
		}
		q.ledger.move(addr, engineOwns, onFill)
	}
	q.fill = append(q.fill, addrs[:n]...)
	return n
}

// Transmit implements platform.Queue.
func (q *queue) Transmit(descs []rings.Desc) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.checkOpen()
	n := min(len(descs), q.size-len(q.tx))
	for _, d := range descs[:n] {
		if d.Options != 0 {
			q.ledger.breach("TX descriptor with options %#x: the kernel refuses it", d.Options)
		}
		if end := d.Addr%platform.FrameSize + uint64(d.Len); d.Len == 0 || end > platform.FrameSize {
			q.ledger.breach("TX descriptor of %d bytes ends %d bytes into its chunk: the kernel refuses it", d.Len, end)
		}
		q.ledger.move(d.Addr, engineOwns, onTx)
	}
	q.tx = append(q.tx, descs[:n]...)
	return n
}

// Kick implements platform.Queue.
func (q *queue) Kick() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.checkOpen()
	if len(q.tx) == 0 {
		return nil
	}
	q.counts.Syscalls++
	if q.kickErr != nil {
		return q.kickErr
	}
	if !q.stalled {
		q.drain()
	}
	return nil
}

// drain sends frames while there is space for their completions. The caller holds mu.
func (q *queue) drain() {
	n := min(len(q.tx), q.size-len(q.completion))
	for _, d := range q.tx[:n] {
		q.ledger.move(d.Addr, onTx, onCompletion)
		if end := d.Addr + uint64(d.Len); end <= uint64(len(q.umem)) {
			q.sent = append(q.sent, slices.Clone(q.umem[d.Addr:end]))
		}
		q.completion = append(q.completion, d.Addr)
	}
	q.tx = slices.Delete(q.tx, 0, n)
}

// Reclaim implements platform.Queue.
func (q *queue) Reclaim(addrs []uint64) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.checkOpen()
	n := copy(addrs, q.completion)
	for _, addr := range q.completion[:n] {
		q.ledger.move(addr, onCompletion, engineOwns)
	}
	q.completion = slices.Delete(q.completion, 0, n)
	return n
}

// FD implements platform.Queue.
func (q *queue) FD() int { return q.event }

// stats returns the kernel's counters of the queue.
func (q *queue) stats() platform.QueueStats {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.counts
	s.Fill, s.Rx, s.Tx, s.Completion = uint64(len(q.fill)), uint64(len(q.rx)), uint64(len(q.tx)), uint64(len(q.completion))
	return s
}

var errFrameTooLong = errors.New("frame does not fit into a chunk")

// arrive receives a frame from the wire. Without a chunk for it, or without space on the RX ring,
// it is not accepted.
func (q *queue) arrive(frame []byte) (accepted bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return false, nil
	case len(frame) > platform.FrameSize-headroom:
		q.counts.RxDropped++
		return false, errFrameTooLong
	case len(q.fill) == 0:
		q.counts.FillRingEmpty++
		return false, nil
	case len(q.rx) == q.size:
		q.counts.RxRingFull++
		return false, nil
	}
	chunk := q.fill[0]
	q.fill = slices.Delete(q.fill, 0, 1)
	q.ledger.move(chunk, onFill, onRx)
	mem := q.umem[chunk : chunk+platform.FrameSize]
	copy(mem, poison) // bytes of the previous frame must not be visible
	q.rx = append(q.rx, rings.Desc{Addr: chunk + headroom, Len: uint32(copy(mem[headroom:], frame))})
	if len(q.rx) == 1 {
		// The counter is 0: Receive has read it.
		_, _ = unix.Write(q.event, binary.NativeEndian.AppendUint64(nil, 1))
	}
	return true, nil
}

// atNextTurn makes the worker call f once, in the middle of its loop.
func (q *queue) atNextTurn(f func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.turn = f
	if len(q.rx) == 0 {
		_, _ = unix.Write(q.event, binary.NativeEndian.AppendUint64(nil, 1)) // ends its sleep
	}
}

// settle makes the descriptor readable only if frames wait, after atNextTurn.
func (q *queue) settle() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.rx) == 0 {
		var count [8]byte
		_, _ = unix.Read(q.event, count[:])
	}
}

// collect returns what was sent since the last call.
func (q *queue) collect() [][]byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	sent := q.sent
	q.sent = nil
	return sent
}

// set makes the driver stall, or fail to be kicked.
func (q *queue) set(stalled bool, kickErr error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stalled, q.kickErr = stalled, kickErr
	if !stalled && kickErr == nil {
		q.drain()
	}
}

// checkOpen reports a use of a closed queue. The caller holds mu.
func (q *queue) checkOpen() {
	if q.closed {
		q.ledger.breach("a closed queue is used")
	}
}

// close closes the queue and returns the frames that it had, and how many of them were not yet
// sent.
func (q *queue) close() (frames []uint64, unsent int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	give := func(addr uint64, from owner) {
		q.ledger.move(addr, from, engineOwns)
		frames = append(frames, addr)
	}
	for _, addr := range q.fill {
		give(addr, onFill)
	}
	for _, d := range q.rx {
		give(d.Addr, onRx)
	}
	for _, d := range q.tx {
		give(d.Addr, onTx)
	}
	for _, addr := range q.completion {
		give(addr, onCompletion)
	}
	unsent = len(q.tx)
	q.fill, q.rx, q.tx, q.completion = nil, nil, nil, nil
	return frames, unsent, unix.Close(q.event)
}
