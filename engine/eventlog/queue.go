package eventlog

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// queueLines bounds the lines that wait to be written. They are a few hundred bytes each.
const queueLines = 4096

// queue writes records on a goroutine of its own, which exists while there are any: whatever the
// output does (a pipe that is full, a journal that hangs, a disk that is full), its callers do not
// wait. Records that find no space, and those that cannot be written, are dropped and counted; how
// many is logged as soon as the output can be written again.
type queue struct {
	notice func(dropped uint64) error // writes the line about dropped ones

	mu      sync.Mutex
	lines   []line
	idle    chan struct{} // closed when all is written; nil: it is
	untold  uint64        // dropped after the last of lines
	dropped uint64        // since the start
}

// line is a record that waits.
type line struct {
	to     slog.Handler
	record slog.Record
	before uint64 // lines that were dropped before it and not reported
}

// put appends a record, or drops it if there is no space. It never blocks.
func (q *queue) put(to slog.Handler, r slog.Record) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.lines) == queueLines {
		q.untold++
		q.dropped++
		return
	}
	q.lines = append(q.lines, line{to, r.Clone(), q.untold})
	q.untold = 0
	if q.idle == nil {
		q.idle = make(chan struct{})
		go q.write()
	}
}

// write writes lines until there are none.
func (q *queue) write() {
	failed := uint64(0) // lines that could not be written and are not reported
	for {
		l, more := q.next(failed)
		if !more {
			return
		}
		var err error
		if failed += l.before; failed > 0 {
			if err = q.notice(failed); err == nil {
				failed = 0
			}
		}
		if err == nil && l.to != nil {
			err = l.to.Handle(context.Background(), l.record)
		}
		if err != nil && l.to != nil {
			failed++
			q.mu.Lock()
			q.dropped++
			q.mu.Unlock()
		}
	}
}

// next removes the first line. After the last one, lines that found no space are reported by a line
// without a record; lines that failed wait for the next one, because the output may fail still.
func (q *queue) next(failed uint64) (l line, more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.lines) > 0 {
		l = q.lines[0]
		q.lines[0] = line{}
		q.lines = q.lines[1:]
		return l, true
	}
	if q.untold > 0 && failed == 0 {
		l.before, q.untold = q.untold, 0
		return l, true
	}
	q.lines = nil
	q.untold += failed
	close(q.idle)
	q.idle = nil
	return line{}, false
}

// flush waits until all lines are written, at most for limit.
func (q *queue) flush(limit time.Duration) {
	q.mu.Lock()
	idle := q.idle
	q.mu.Unlock()
	if idle == nil {
		return
	}
	select {
	case <-idle:
	case <-time.After(limit):
	}
}

// total returns how many lines were dropped since the start.
func (q *queue) total() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}

// Flush waits until all that was logged is written, at most for limit.
func (l *Log) Flush(limit time.Duration) { l.queue.flush(limit) }

// reportDropped writes to the output how many lines were dropped.
func (l *Log) reportDropped(to slog.Handler, n uint64) error {
	r := slog.NewRecord(time.Now(), slog.LevelWarn, fmt.Sprintf("%d log lines were dropped", n), 0)
	r.Add("event", Dropped, "count", n)
	if err := to.Handle(context.Background(), r); err != nil {
		return err
	}
	l.publish(eventOf(r, nil))
	return nil
}
