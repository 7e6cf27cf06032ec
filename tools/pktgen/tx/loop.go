package tx

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sluice/tools/pktgen/clock"
)

// Source makes frames.
type Source interface {
	// MaxBytes returns the length of the longest frame.
	MaxBytes() int
	// Next writes the next frame to the start of to and returns its length, 0 if there is none.
	Next(to []byte, nowNS int64) (bytes int)
}

// Pacer determines when the next frame is due.
type Pacer interface {
	Wait(nowNS int64) int64
	Took(nowNS int64)
}

// output sends frames from user space. It belongs to the sending thread.
type output interface {
	// send calls fill for up to n frames and returns how many it sent, which may be none. fill
	// returns 0 for no more frames.
	send(n int, fill func([]byte) int) (int, error)
	// confirm returns how many frames have been confirmed as sent since the last call.
	confirm() (int, error)
	// pending returns how many frames are sent and not confirmed.
	pending() int
	close() error
}

// loop is a sender that makes its frames in user space.
type loop struct {
	options Options
	backend Backend
	source  Source
	pace    Pacer
	out     output

	nowNS int64
	made  uint64
	empty bool
	bytes uint64 // made

	// Read by other goroutines.
	frames, octets atomic.Uint64
	first, last    atomic.Int64
}

func newLoop(b Backend, source Source, pace Pacer, o Options) (*loop, error) {
	l := &loop{options: o, backend: b, source: source, pace: pace}
	err := o.Port.Affinity.Do(func() (err error) {
		if b == XSK {
			l.out, err = openXSK(o.Port.Index, o.Queue, source.MaxBytes())
		} else {
			l.out, err = openPacket(o.Port.Index, source.MaxBytes())
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("sending from %s: %w", o.Port.Name, err)
	}
	return l, nil
}

func (l *loop) Backend() Backend { return l.backend }
func (l *loop) Close() error     { return l.out.close() }

// Counts includes the bytes of frames that are not confirmed yet.
func (l *loop) Counts() Counts {
	return Counts{Frames: l.frames.Load(), Bytes: l.octets.Load(), FirstNS: l.first.Load(), LastNS: l.last.Load()}
}

// FlowsSent returns the counts of the source, nil if it does not count.
func (l *loop) FlowsSent() []uint32 {
	if counter, ok := l.source.(interface{ Sent() []uint32 }); ok {
		return counter.Sent()
	}
	return nil
}

// Send occupies a thread with the sender's affinity.
func (l *loop) Send(ctx context.Context) error {
	err := l.options.Port.Affinity.Do(func() error { return l.run(ctx) })
	if err != nil {
		return fmt.Errorf("sending from %s: %w", l.options.Port.Name, err)
	}
	return nil
}

// burst bounds the frames between two checks of clock and pace. The kernel sends as many for one
// system call.
const burst = 32

// confirmTimeout bounds the wait for the confirmation of the last frames.
const confirmTimeout = 2 * time.Second

func (l *loop) run(ctx context.Context) error {
	fill := l.fill // once, because a method value allocates
	for ctx.Err() == nil && !l.done() {
		l.nowNS = clock.Now()
		if wait := l.pace.Wait(l.nowNS); wait > 0 {
			rest(wait)
			continue
		}
		if _, err := l.out.send(burst, fill); err != nil {
			return err
		}
		if err := l.collect(); err != nil {
			return err
		}
	}
	return l.finish()
}

func (l *loop) done() bool {
	return l.empty || l.options.Limit > 0 && l.made >= l.options.Limit
}

// fill makes one frame if one is due.
func (l *loop) fill(to []byte) int {
	if l.done() || l.pace.Wait(l.nowNS) > 0 {
		return 0
	}
	n := l.source.Next(to, clock.Now())
	if n == 0 {
		l.empty = true
		return 0
	}
	l.pace.Took(l.nowNS)
	l.made++
	l.bytes += uint64(n)
	return n
}

func (l *loop) collect() error {
	n, err := l.out.confirm()
	l.frames.Add(uint64(n))
	l.octets.Store(l.bytes)
	if l.made > 0 && l.first.Load() == 0 {
		l.first.Store(l.nowNS)
	}
	l.last.Store(l.nowNS)
	return err
}

// finish waits for the confirmation of the last frames.
func (l *loop) finish() error {
	for deadline := time.Now().Add(confirmTimeout); l.out.pending() > 0; time.Sleep(100 * time.Microsecond) {
		if err := l.collect(); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the last %d frames aren't confirmed after %v: the interface doesn't send", l.out.pending(), confirmTimeout)
		}
	}
	return l.collect()
}

// A sleeping thread wakes up to slackNS late; the rest of the wait polls the clock.
const (
	slackNS      = 80_000
	longestSleep = 10_000_000 // ns; then it checks whether it has to stop
)

func rest(waitNS int64) {
	if waitNS <= slackNS {
		return
	}
	ts := unix.NsecToTimespec(min(waitNS-slackNS, longestSleep))
	_ = unix.Nanosleep(&ts, nil) // a signal ends it early, and the loop checks again
}
