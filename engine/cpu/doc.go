// Package cpu chooses the CPUs that workers run on, pins them there, and lets them sleep.
//
// One worker is one OS thread on one CPU. A port's queue i belongs to worker i modulo the number of
// workers, on every port. So the worker that receives on queue i of one port sends on queue i of
// another.
//
// The package starts no goroutine. Any goroutine may call its functions; Pin and Sleeper state
// their own rules. It imports nothing of Sluice.
//
// Sources: sched_setaffinity(2), cpuset(7), eventfd(2), and the kernel's
// Documentation/admin-guide/cputopology.rst.
package cpu
