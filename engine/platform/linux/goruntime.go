package linux

import (
	"log/slog"
	"runtime"
	"runtime/debug"

	"sluice/engine/cpu"
)

// gcPercent lets the heap grow to five times the live data before it is collected. The live data is
// a few megabytes: tables and configuration. Connections, frames and rings are outside the heap,
// and the packet path allocates nothing, so that only the control plane (a listing, a scrape, a
// reload) causes collections.
const gcPercent = 400

// quietRuntime keeps the Go runtime and the process's other threads off the workers' CPUs as far as
// possible, until restore is called. Three things could disturb the workers:
//
// Threads. The kernel would run the control plane's threads on any CPU, also on those of workers.
// They are confined to the CPUs that no worker has; the workers pin themselves afterwards. If no
// CPU is left, they share the workers' CPUs and the kernel divides the time.
//
// The collector. It uses a quarter of the runtime's processors (GOMAXPROCS) for marking and would
// take them from workers: a worker that is stopped for the collector, for some microseconds, would
// then wait until a processor is free. So GOMAXPROCS is the number of workers plus twice what the
// collector and the control plane use at most. A processor is only the permission to run; the
// threads of the additional ones share the CPUs that no worker has.
//
// Preemption. The runtime asks a goroutine that has run for 10 ms to yield (sysmon,
// runtime/proc.go). A worker, which is locked to its thread, then gives up its processor and gets
// the next free one; for the reason above, one is free. The remaining gaps are in the histogram
// that the stats show.
func quietRuntime(cores []int, log *slog.Logger) (restore func()) {
	processors, percent := runtime.GOMAXPROCS(0), debug.SetGCPercent(gcPercent)
	runtime.GOMAXPROCS(max(processors, 2*len(cores)+2))
	spare := cpu.Spare(cores)
	confined := false
	if len(spare) > 0 {
		err := cpu.Confine(spare)
		if confined = err == nil; err != nil {
			log.Warn("other threads than the workers' may run on the workers' CPUs", "err", err)
		}
	}
	return func() {
		runtime.GOMAXPROCS(processors)
		debug.SetGCPercent(percent)
		if allowed, err := cpu.Allowed(); confined && err == nil {
			_ = cpu.Confine(allowed)
		}
	}
}
