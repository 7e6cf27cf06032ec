package eventlog

import (
	"sync"
	"time"
)

// The limits of a log: in each window, so many lines about one subject (an event of one backend,
// for example), and so many with one reason, whatever their subject. Suppressed lines are counted
// and reported when the window ends.
const (
	limitWindow    = 30 * time.Second
	limitPerThing  = 10
	limitPerReason = 200
	limitSubjects  = 8192 // remembered at once
)

type limiter struct {
	mu      sync.Mutex
	reasons map[string]*window
	things  map[[2]string]*window
	lost    uint64
}

// window counts lines from its start.
type window struct {
	began time.Time
	lines int
	lost  uint64 // suppressed lines
}

func newLimiter() *limiter {
	return &limiter{reasons: make(map[string]*window), things: make(map[[2]string]*window)}
}

func (l *limiter) total() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

// allows reports whether a line may be written. If not, leftOut is called at the end of the window,
// on another goroutine, with the number of suppressed lines.
func (l *limiter) allows(reason, subject string, now time.Time, leftOut func(n uint64)) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.things) >= limitSubjects || len(l.reasons) >= limitSubjects {
		l.forget(now)
	}
	thing := current(l.things, [2]string{reason, subject}, now)
	all := current(l.reasons, reason, now)
	thing.lines++
	over := thing
	if thing.lines <= limitPerThing {
		if all.lines++; all.lines <= limitPerReason {
			return true
		}
		over = all
	}
	l.lost++
	if over.lost++; over.lost == 1 {
		time.AfterFunc(over.began.Add(limitWindow).Sub(now), func() {
			l.mu.Lock()
			n := over.lost
			over.lost = 0
			l.mu.Unlock()
			leftOut(n)
		})
	}
	return false
}

// current returns the window that now is in, a new one if the last is over.
func current[K comparable](windows map[K]*window, key K, now time.Time) *window {
	w := windows[key]
	if w == nil || now.Sub(w.began) >= limitWindow {
		w = &window{began: now}
		windows[key] = w
	}
	return w
}

// forget drops windows that are over, and all windows if there are still too many. Repeated lines
// are then logged again, which is better than unbounded memory. The caller holds mu.
func (l *limiter) forget(now time.Time) {
	for key, w := range l.things {
		if now.Sub(w.began) >= limitWindow {
			delete(l.things, key)
		}
	}
	for key, w := range l.reasons {
		if now.Sub(w.began) >= limitWindow {
			delete(l.reasons, key)
		}
	}
	if len(l.things) >= limitSubjects || len(l.reasons) >= limitSubjects {
		clear(l.things)
		clear(l.reasons)
	}
}
