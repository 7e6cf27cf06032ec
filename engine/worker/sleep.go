package worker

import (
	"context"
	"errors"
)

// idleTurns is how many turns in a row must find nothing before a worker sleeps: some 15
// microseconds, so that a gap between two packets of a busy box costs no sleep, and an idle box no
// CPU.
const idleTurns = 100

// The longest a worker sleeps: short while frames wait for room in a driver's ring, else just often
// enough for the sweep.
const (
	restPendingMs = 1
	restIdleMs    = 250
)

// patientTurns is after how many idle turns - a second's worth of short sleeps - frames that a
// driver does not send, because its link is down, are no reason to wake up often any more.
const patientTurns = idleTurns + 1000

// rest sleeps until a frame, a hand-over or a request comes, or it's time for the next sweep.
func (w *Worker) rest() {
	if !w.poll || w.idle < idleTurns {
		return
	}
	w.bell.asleep.Store(true)
	if !w.hasWork() {
		timeoutMs := restIdleMs
		if w.idle < patientTurns && w.unsent() || w.proc.RSTProbesDue() {
			timeoutMs = restPendingMs
		}
		w.stats.sleeps++
		w.sleeper.Sleep(timeoutMs)
		w.clock.slept()
	}
	w.bell.asleep.Store(false)
}

// hasWork looks at everything that a bell may ring for.
func (w *Worker) hasWork() bool {
	for _, ring := range w.handIn {
		if ring != nil && ring.Len() > 0 {
			return true
		}
	}
	return len(w.mailbox) > 0 || w.stop.Load() || w.stock.comingHome()
}

// unsent says that frames given to a driver have not come back yet: nobody would wake us for them.
func (w *Worker) unsent() bool {
	for _, q := range w.queues {
		if q.tx != q.reclaimed {
			return true
		}
	}
	return false
}

// close frees what the worker slept by. It has stopped, and so have those that hand frames to it;
// those that ask something of it may not know yet.
func (w *Worker) close() error {
	w.waking.Lock()
	defer w.waking.Unlock()
	w.bell.wake = func() {}
	return w.sleeper.Close()
}

// errStopped is what Do returns when the worker has ended.
var errStopped = errors.New("worker has stopped")

// Do has the worker call f between two batches and waits until it has. f may touch all that the
// worker owns; while it runs, no packet moves. Any goroutine but the worker's own may call Do.
func (w *Worker) Do(ctx context.Context, f func()) error {
	ran := make(chan struct{})
	select {
	case w.mailbox <- func() { f(); close(ran) }:
	case <-w.done:
		return errStopped
	case <-ctx.Done():
		return ctx.Err()
	}
	w.waking.RLock()
	w.bell.ring()
	w.waking.RUnlock()
	select {
	case <-ran:
		return nil
	case <-w.done:
		return errStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}
