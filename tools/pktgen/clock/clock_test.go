package clock_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"sluice/tools/pktgen/clock"
)

// TestNowIsTheKernelsClock: a reading of Now lies between two of the kernel's clock, except for the
// error of base.
func TestNowIsTheKernelsClock(t *testing.T) {
	const precision = 50_000 // ns; on an idle machine it is about 100
	kernel := func() int64 {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			t.Fatal(err)
		}
		return ts.Nano()
	}
	for range 1000 {
		before, now, after := kernel(), clock.Now(), kernel()
		if now < before-precision || now > after+precision {
			t.Fatalf("%d is not between %d and %d", now, before, after)
		}
	}
}
