package worker

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// startedKernelNs is the kernel's CLOCK_MONOTONIC, which the XDP program reads, at started.
var startedKernelNs = kernelNs() - nowNs()

// kernelNs returns the kernel's CLOCK_MONOTONIC. In a time namespace it differs from the process's:
// see time_namespaces(7).
func kernelNs() int64 {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return 0 // impossible
	}
	offsets, _ := os.ReadFile("/proc/self/timens_offsets") // an old kernel has none
	return now.Nano() - timeOffset(string(offsets)).Nanoseconds()
}

// timeOffset returns the offset of the monotonic clock from a text as in timens_offsets.
func timeOffset(text string) time.Duration {
	for line := range strings.Lines(text) {
		var seconds, ns int64
		if n, _ := fmt.Sscanf(line, "monotonic %d %d", &seconds, &ns); n == 2 {
			return time.Duration(seconds)*time.Second + time.Duration(ns)
		}
	}
	return 0
}

// beat says that the worker runs, to the XDP program, which drops frames for a worker that does
// not: see steer.Port.Heartbeat. It is called once per ms at most, because time is counted in
// these.
func (w *Worker) beat() {
	for _, q := range w.queues {
		if q.heartbeat != nil {
			q.heartbeat.Store(startedKernelNs + w.clock.ns)
		}
	}
}
