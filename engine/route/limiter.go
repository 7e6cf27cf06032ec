package route

import "time"

// limiter allows each key at most once a second, and a limited number of keys per second
// altogether.
type limiter[K comparable] struct {
	last map[K]time.Time // when keys were allowed; entries older than a second may be deleted
	most int
}

func newLimiter[K comparable](most int) *limiter[K] {
	return &limiter[K]{make(map[K]time.Time), most}
}

// allow reports whether key is allowed now.
func (l *limiter[K]) allow(key K, now time.Time) bool {
	if t, ok := l.last[key]; ok && now.Sub(t) < time.Second {
		return false
	}
	if len(l.last) >= l.most {
		for k, t := range l.last {
			if now.Sub(t) >= time.Second {
				delete(l.last, k)
			}
		}
		if len(l.last) >= l.most {
			return false
		}
	}
	l.last[key] = now
	return true
}
