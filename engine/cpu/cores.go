package cpu

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// maxCPUs is how many CPUs are looked at; Linux on amd64 and arm64 is built for at most 8192.
const maxCPUs = 8192

// atStart is the affinity that the process was started with. It is taken here, once, because later
// any thread may be a pinned worker's, which sees its own CPU only.
var atStart, atStartErr = affinity()

// Allowed lists the CPUs that the process may run on - as taskset, systemd's CPUAffinity and
// AllowedCPUs, or a container left them when it started - in ascending order.
func Allowed() ([]int, error) { return slices.Clone(atStart), atStartErr }

// Default is the CPUs that workers take when none are configured: all allowed ones but the first,
// which is left to the control plane and the kernel; the only one, if there is one.
func Default(allowed []int) []int {
	if len(allowed) > 1 {
		allowed = allowed[1:]
	}
	return slices.Clone(allowed)
}

// Cores is the CPUs for workers: the configured ones in their order, or Default if there are none.
// It is an error to name a CPU twice, one that is offline, or one that the process may not use; all
// such are named.
func Cores(configured []int) ([]int, error) {
	allowed, err := Allowed()
	if err != nil {
		return nil, err
	}
	if len(configured) == 0 {
		return Default(allowed), nil
	}
	if err := check(configured, allowed, onlineCPUs()); err != nil {
		return nil, err
	}
	return slices.Clone(configured), nil
}

// check joins one error for each CPU that can't be had. Nothing is known to be offline if online is
// nil.
func check(cores, allowed, online []int) error {
	var errs []error
	for i, core := range cores {
		switch {
		case slices.Contains(cores[:i], core):
			errs = append(errs, fmt.Errorf("CPU %d is named twice: one worker takes a whole CPU", core))
		case slices.Contains(allowed, core):
		case online != nil && !slices.Contains(online, core):
			errs = append(errs, fmt.Errorf("CPU %d is offline or doesn't exist; online are %s, allowed are %s",
				core, FormatList(online), FormatList(allowed)))
		default:
			errs = append(errs, fmt.Errorf("CPU %d is not allowed for this process; allowed are %s (see taskset, "+
				"and CPUAffinity and AllowedCPUs in the systemd unit)", core, FormatList(allowed)))
		}
	}
	return errors.Join(errs...)
}

// Pin binds the calling OS thread to one CPU. The caller has locked its goroutine to the thread and
// doesn't unlock it, so that the thread ends with the goroutine and takes its affinity with it.
func Pin(cpu int) error {
	if cpu < 0 || cpu >= maxCPUs {
		return fmt.Errorf("pin to CPU %d: CPUs are numbered 0 to %d", cpu, maxCPUs-1)
	}
	set := unix.NewCPUSet(maxCPUs)
	set.Set(cpu)
	if err := unix.SchedSetaffinityDynamic(0, set); err != nil {
		return fmt.Errorf("pin to CPU %d, allowed are %s: %w", cpu, FormatList(atStart), err)
	}
	return nil
}

// WorkerOf is the worker, from 0, that a port's queue belongs to.
func WorkerOf(queue, workers int) int { return queue % workers }

// affinity is the CPUs that the calling thread may run on.
func affinity() ([]int, error) {
	set := unix.NewCPUSet(maxCPUs)
	if err := unix.SchedGetaffinityDynamic(0, set); err != nil {
		return nil, fmt.Errorf("which CPUs are allowed: sched_getaffinity: %w", err)
	}
	var cpus []int
	for cpu := range maxCPUs {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}

// onlineCPUs is what sysfs says, nil if it doesn't.
func onlineCPUs() []int {
	text, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		return nil
	}
	cpus, err := ParseList(string(text))
	if err != nil {
		return nil
	}
	return cpus
}
