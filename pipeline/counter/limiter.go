package counter

// Limiter is a token bucket with a resolution of milliseconds. It belongs to one goroutine. The
// zero value is empty.
type Limiter struct {
	tokens uint32 // in thousandths of what is limited
	lastMs uint32 // time of the last refill
}

// NewLimiter returns a Limiter that is full.
func NewLimiter(burst uint32) Limiter { return Limiter{tokens: 1000 * burst} }

// Allow reports whether one more may pass now, and counts it: perSecond in the long run, burst at
// once. Both are the same in each call, and at most a million.
func (l *Limiter) Allow(nowMs, perSecond, burst uint32) bool {
	if passed := nowMs - l.lastMs; passed > 0 {
		l.lastMs = nowMs
		l.tokens = min(l.tokens+min(passed, 1000)*perSecond, 1000*burst)
	}
	if l.tokens < 1000 {
		return false
	}
	l.tokens -= 1000
	return true
}
