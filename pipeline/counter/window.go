package counter

import "sync/atomic"

// Admit reports whether one more may begin for a service now, and counts it: perSecond in any
// second, at most about a million. All workers share the count.
//
// It has the counts of this second and of the one before, and takes of the latter the part that is
// within the last thousand milliseconds, as if its events had been spread evenly.
func (t *Turns) Admit(service, nowMs, perSecond uint32) bool {
	const (
		countBits = 22
		counts    = 1<<countBits - 1
		seconds   = 1<<(64-2*countBits) - 1
	)
	word := &t.lines[service].window
	second, passed := uint64(nowMs/1000)&seconds, uint64(nowMs%1000)
	for {
		was := atomic.LoadUint64(word)
		before, now := was>>countBits&counts, was&counts
		switch was >> (2 * countBits) {
		case second:
		case (second - 1) & seconds:
			before, now = now, 0
		default:
			before, now = 0, 0
		}
		if now+before*(1000-passed)/1000 >= uint64(perSecond) {
			return false
		}
		if atomic.CompareAndSwapUint64(word, was, second<<(2*countBits)|before<<countBits|(now+1)) {
			return true
		}
	}
}
