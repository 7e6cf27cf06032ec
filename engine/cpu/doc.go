// Package cpu decides which CPUs workers run on, pins them there, and lets them sleep.
//
// One worker is one OS thread on one CPU. A port's queue i belongs to worker i modulo the number of
// workers, on every port alike, so that a worker which receives on queue i of one port sends on
// queue i of the other.
package cpu
