package cpu

import (
	"log/slog"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// gcPercent lets the heap grow to five times the live data before it is collected. Connections,
// frames and rings are outside the heap, and the packet path allocates nothing, so that only the
// control plane (a listing, a scrape, a reload) causes collections.
const gcPercent = 400

// mostGarbage bounds by how much the heap grows between two collections. The counters for all
// services and backends that there can be are live data of a hundred megabytes and more: gcPercent
// alone would let the heap become five times as large within minutes, and stay so.
const mostGarbage = 128 << 20

// BoundHeap makes the heap grow by gcPercent, but by mostGarbage at most, as long as the live data
// is what it is now. It collects garbage, which takes a moment. Undone by restore of QuietRuntime,
// which must have been called before.
func BoundHeap() {
	runtime.GC()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	debug.SetGCPercent(heapPercent(live[0].Value.Uint64()))
}

// heapPercent returns by how much a heap with so many live bytes may grow, in per cent of them.
func heapPercent(live uint64) int {
	return int(min(100*mostGarbage/max(live, 1)+1, gcPercent))
}

// sliceNs is the shortest time slice that Linux accepts.
const sliceNs = 100_000

// QuietRuntime keeps the Go runtime and the process's other threads off the workers' CPUs as far as
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
// the next free one; for the reason above, one is free. Another thread has to wake up for that, and
// may find its CPU taken by one with much to do, such as a reload. So the threads' time slices are
// short: one that wakes up then need not wait for milliseconds. The remaining gaps are in the
// histogram that the stats show.
func QuietRuntime(cores []int, log *slog.Logger) (restore func()) {
	processors, percent := runtime.GOMAXPROCS(0), debug.SetGCPercent(gcPercent)
	runtime.GOMAXPROCS(max(processors, 2*len(cores)+2))
	if err := SetTimeSlices(sliceNs); err != nil {
		log.Debug("time slices keep their length", "err", err)
	}
	spare := Spare(cores)
	confined := false
	if len(spare) > 0 {
		err := Confine(spare)
		if confined = err == nil; err != nil {
			log.Warn("other threads than the workers' may run on the workers' CPUs", "err", err)
		}
	}
	return func() {
		_ = SetTimeSlices(0)
		runtime.GOMAXPROCS(processors)
		debug.SetGCPercent(percent)
		if allowed, err := Allowed(); confined && err == nil {
			_ = Confine(allowed)
		}
	}
}
