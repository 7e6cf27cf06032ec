// Package clock reads the clock of stamps, CLOCK_MONOTONIC. bpf_ktime_get_ns reads the same, so
// that senders and receivers in the kernel and in user space agree on the time.
package clock

import (
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// base is the time of Go's clock at which the kernel's clock was 0. Go's clock is CLOCK_MONOTONIC,
// too, read without a system call, but with an unknown start.
var base = findBase()

// findBase reads one clock between two readings of the other, several times, and uses the narrowest
// pair.
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

// Now returns the time in nanoseconds of CLOCK_MONOTONIC, accurate to about 100 ns. Any goroutine
// may call it.
func Now() int64 { return int64(time.Since(base)) }
