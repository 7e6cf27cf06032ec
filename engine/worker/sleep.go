package worker

import (
	"context"
	"errors"
)

// idleTurns is how many turns in a row must find nothing before a worker sleeps: about 15
// microseconds. A gap between two packets under load then costs no sleep, and an idle worker uses
// no CPU.
const idleTurns = 100

// The longest that a worker sleeps: short while a driver has not transmitted all frames, else short
// enough for the heartbeat (heartbeat.go), and so for the sweep of the connection tables.
const (
	sleepUnsentMs = 1
	sleepIdleMs   = 100
)

// unsentTurns is the number of idle turns, about a second of short sleeps, after which frames that
// the driver does not transmit (because the link is down) no longer shorten the sleep.
const unsentTurns = idleTurns + 1000

// sleep waits for a frame, a hand-over or a request, at most until the next sweep is due. It
// returns at once unless the worker has been idle for long enough.
func (w *Worker) sleep() {
	if !w.sleeps || w.idle < idleTurns {
		return
	}
	w.waker.asleep.Store(true)
	if !w.hasWork() {
		timeoutMs := sleepIdleMs
		if w.idle < unsentTurns && w.unsent() || w.proc.RSTProbesDue() {
			timeoutMs = sleepUnsentMs
		}
		w.counted.Sleeps++
		w.sleeper.Sleep(timeoutMs)
		w.clock.slept()
	}
	w.waker.asleep.Store(false)
}

// hasWork reports whether there is something that other goroutines wake the worker for.
func (w *Worker) hasWork() bool {
	for _, ring := range w.handIn {
		if ring != nil && ring.Len() > 0 {
			return true
		}
	}
	return len(w.mailbox) > 0 || w.stop.Load() || w.frames.returning()
}

// unsent reports whether frames given to a driver have not been reclaimed. No event wakes the
// worker for them.
func (w *Worker) unsent() bool {
	for _, q := range w.queues {
		if q.counted.Tx != q.reclaimed {
			return true
		}
	}
	return false
}

// close frees the file descriptors that the worker polled. The worker has stopped, and so have
// those that hand frames to it; Do may still be called.
func (w *Worker) close() error {
	w.wakeMu.Lock()
	defer w.wakeMu.Unlock()
	w.waker.write = func() {}
	return w.sleeper.Close()
}

// errStopped is the error of Do after the worker has stopped.
var errStopped = errors.New("worker has stopped")

// Do has the worker call f between two batches and returns when f has returned. f may use
// everything that the worker owns; while it runs, the worker moves no packets. Do returns an error
// if ctx ends first, in which case f may still be called, or if the worker has stopped. Any
// goroutine but the worker's own may call Do.
func (w *Worker) Do(ctx context.Context, f func()) error {
	ran := make(chan struct{})
	select {
	case w.mailbox <- func() { f(); close(ran) }:
	case <-w.done:
		return errStopped
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	w.wakeMu.RLock()
	w.waker.wake()
	w.wakeMu.RUnlock()
	select {
	case <-ran:
		return nil
	case <-w.done:
		return errStopped
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
