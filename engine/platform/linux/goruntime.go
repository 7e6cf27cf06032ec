package linux

import (
	"log/slog"
	"runtime"
	"runtime/debug"

	"sluice/engine/cpu"
)

// gcPercent lets the heap grow to five times what lives before it is collected. What lives is a few
// megabytes: tables and configuration. Connections, frames and rings are outside of the heap, and
// the packet path allocates nothing, so only the control plane's work - a listing, a scrape, a
// reload - brings the next collection about.
const gcPercent = 400

// quietRuntime keeps the Go runtime and the process's other threads off the workers' CPUs as far as
// they can be kept, until restore is called. What there is to keep off:
//
// Threads. The kernel's scheduler would put the control plane's threads on any CPU, a worker's too.
// They are confined to the CPUs that no worker has; the workers pin themselves afterwards. Without
// such a CPU they share, and the kernel divides the time.
//
// The collector. It wants a quarter of the runtime's processors (GOMAXPROCS) for marking, and would
// take those that workers run on: a worker that is asked to stop for the collector's sake, which
// takes some microseconds, then has to wait until a processor is free. So there are as many as
// workers, plus twice what the collector and the control plane use at most. They are no CPUs, only
// permission to run: the threads behind the added ones share the CPUs left to them.
//
// Preemption. Each 10 ms the runtime asks a goroutine that has been running all the time to let
// others run (sysmon, runtime/proc.go). A worker, locked to its thread, then gives its processor
// away and gets the next free one, which there is, for the reason above. The gaps that all of this
// leaves are in the histogram that stats shows, always.
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
