package cpu

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// maxCPUs limits CPU numbers. Linux on amd64 and arm64 is built for at most 8192 CPUs.
const maxCPUs = 8192

// atStart is the affinity at process start. It is read once, here, because later the calling thread
// may be a pinned worker's, which has one CPU only.
var atStart, atStartErr = affinity()

// Allowed returns the CPUs that the process may run on, in ascending order, as taskset, systemd's
// CPUAffinity and AllowedCPUs, or a container had set them when it started.
func Allowed() ([]int, error) { return slices.Clone(atStart), atStartErr }

// Default returns the CPUs of the workers if none are configured: all allowed CPUs but the first,
// which is left to the control plane and the kernel. If only one CPU is allowed, it returns that
// one.
func Default(allowed []int) []int {
	if len(allowed) > 1 {
		allowed = allowed[1:]
	}
	return slices.Clone(allowed)
}

// Cores returns the CPUs of the workers: the configured ones in their order, or Default if there
// are none. A CPU that is listed twice, is offline, or is not allowed for this process is an error;
// the error names all of them.
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

// check returns one joined error for every CPU that cannot be used. If online is nil, no CPU counts
// as offline.
func check(cores, allowed, online []int) error {
	var errs []error
	for i, core := range cores {
		switch {
		case slices.Contains(cores[:i], core):
			errs = append(errs, fmt.Errorf("CPU %d is listed twice: each worker needs a CPU of its own", core))
		case slices.Contains(allowed, core):
		case online != nil && !slices.Contains(online, core):
			errs = append(errs, fmt.Errorf("CPU %d is offline or does not exist; online: %s; allowed: %s",
				core, FormatList(online), FormatList(allowed)))
		default:
			errs = append(errs, fmt.Errorf("CPU %d is not allowed for this process; allowed: %s (see taskset, "+
				"and CPUAffinity and AllowedCPUs in the systemd unit)", core, FormatList(allowed)))
		}
	}
	return errors.Join(errs...)
}

// Pin binds the calling OS thread to one CPU. The caller must have locked its goroutine to the
// thread and must not unlock it; the thread then ends with the goroutine.
func Pin(cpu int) error {
	if cpu < 0 || cpu >= maxCPUs {
		return fmt.Errorf("pin to CPU %d: CPUs are numbered 0 to %d", cpu, maxCPUs-1)
	}
	set := unix.NewCPUSet(maxCPUs)
	set.Set(cpu)
	if err := unix.SchedSetaffinityDynamic(0, set); err != nil {
		return fmt.Errorf("pin to CPU %d (allowed: %s): %w", cpu, FormatList(atStart), err)
	}
	return nil
}

// Unpin lets the calling OS thread run on the CPUs of Allowed. The caller must have locked its
// goroutine to the thread.
func Unpin() error {
	set := unix.NewCPUSet(maxCPUs)
	for _, c := range atStart {
		set.Set(c)
	}
	return unix.SchedSetaffinityDynamic(0, set)
}

// WorkerOf returns the index of the worker that a port's queue belongs to.
func WorkerOf(queue, workers int) int { return queue % workers }

// affinity returns the CPUs that the calling thread may run on.
func affinity() ([]int, error) {
	set := unix.NewCPUSet(maxCPUs)
	if err := unix.SchedGetaffinityDynamic(0, set); err != nil {
		return nil, fmt.Errorf("allowed CPUs: sched_getaffinity: %w", err)
	}
	var cpus []int
	for cpu := range maxCPUs {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}

// onlineCPUs returns the online CPUs from sysfs, or nil if they cannot be read.
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
