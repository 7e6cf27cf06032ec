package counter

import "sync/atomic"

// The bits of a window: a second, the count of the second before, and that of the second.
const (
	windowCountBits = 22
	windowCounts    = 1<<windowCountBits - 1
	windowSeconds   = 1<<(64-2*windowCountBits) - 1
)

// Admit reports whether one more may begin for a service now, and counts it: perSecond in any
// second, at most about a million. All workers share the count.
func (t *Turns) Admit(service, nowMs, perSecond uint32) bool {
	return admit(&t.lines[service].window, nowMs, perSecond)
}

// CopyWindow makes Admit count on from where another Turns is for a service.
func (t *Turns) CopyWindow(service uint32, from *Turns) {
	t.lines[service].window = atomic.LoadUint64(&from.lines[service].window)
}

// admit is Admit for a window. It has the counts of this second and of the one before, and takes of
// the latter the part that is within the last thousand milliseconds, as if its events had been
// spread evenly.
func admit(window *uint64, nowMs, perSecond uint32) bool {
	second, passed := uint64(nowMs/1000)&windowSeconds, uint64(nowMs%1000)
	for {
		was := atomic.LoadUint64(window)
		before, now := was>>windowCountBits&windowCounts, was&windowCounts
		switch was >> (2 * windowCountBits) {
		case second:
		case (second - 1) & windowSeconds:
			before, now = now, 0
		default:
			before, now = 0, 0
		}
		if now+before*(1000-passed)/1000 >= uint64(perSecond) {
			return false
		}
		if atomic.CompareAndSwapUint64(window, was, second<<(2*windowCountBits)|before<<windowCountBits|(now+1)) {
			return true
		}
	}
}

// idle reports whether a window has nothing of this second and of the one before.
func idle(window *uint64, nowMs uint32) bool {
	second := uint64(nowMs/1000) & windowSeconds
	now := atomic.LoadUint64(window)
	of := now >> (2 * windowCountBits)
	return now == 0 || of != second && of != (second-1)&windowSeconds
}
