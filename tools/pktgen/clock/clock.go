// Package clock is the clock that stamps carry: CLOCK_MONOTONIC, the one that bpf_ktime_get_ns
// reads, so that frames made in the kernel and in user space, and both receivers, agree on the
// time.
package clock

import (
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// base is when the kernel's clock showed 0, in terms of Go's. Go's own clock is CLOCK_MONOTONIC
// too, read without a system call, but it hides where it starts.
var base = findBase()

// findBase brackets one clock between two readings of the other, several times, and believes the
// narrowest pair.
func findBase() time.Time {
	var best time.Time
	narrowest := time.Duration(math.MaxInt64)
	for range 16 {
		var ts unix.Timespec
		before := time.Now()
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			panic("CLOCK_MONOTONIC can't be read: " + err.Error()) // every Linux has it
		}
		width := time.Since(before)
		if width < narrowest {
			narrowest, best = width, before.Add(width/2-time.Duration(ts.Nano()))
		}
	}
	return best
}

// Now returns the time in nanoseconds of CLOCK_MONOTONIC, right to about 100 ns. Any goroutine may
// call it.
func Now() int64 { return int64(time.Since(base)) }
