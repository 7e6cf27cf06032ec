package cpu

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Spare returns the allowed CPUs that are not in cores, or nil if there are none.
func Spare(cores []int) []int {
	return slices.DeleteFunc(slices.Clone(atStart), func(c int) bool { return slices.Contains(cores, c) })
}

// Confine binds all threads of the process to the CPUs. Later threads inherit the binding, because
// the Go runtime starts no thread from one that a goroutine is locked to; a goroutine that must run
// elsewhere calls Pin afterwards. Confine with the CPUs of Allowed undoes it.
func Confine(cpus []int) error {
	set := unix.NewCPUSet(maxCPUs)
	for _, c := range cpus {
		set.Set(c)
	}
	err := eachThread(func(tid int) error {
		return unix.SchedSetaffinityDynamic(tid, set)
	})
	if err != nil {
		return fmt.Errorf("confine to CPUs %s: %w", FormatList(cpus), err)
	}
	return nil
}

// SetTimeSlices makes the time slices of all threads of the process so long, and of later ones, as
// for Confine; 0: as the kernel chooses. Linux before 6.12 ignores it.
func SetTimeSlices(ns uint64) error {
	err := eachThread(func(tid int) error {
		attr, err := unix.SchedGetAttr(tid, 0)
		if err != nil || attr.Policy != unix.SCHED_NORMAL {
			return err
		}
		attr.Runtime = ns
		return unix.SchedSetAttr(tid, attr, 0)
	})
	if err != nil {
		return fmt.Errorf("set time slices to %d ns: %w", ns, err)
	}
	return nil
}

// eachThread calls f for all threads of the process. A thread that ends meanwhile is no error.
func eachThread(f func(tid int) error) error {
	done := make(map[int]bool)
	for news := true; news; { // a thread may have started another one before f was called for it
		news = false
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, task := range tasks {
			tid, err := strconv.Atoi(task.Name())
			if err != nil || done[tid] {
				continue
			}
			done[tid], news = true, true
			if err := f(tid); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("thread %d: %w", tid, err)
			}
		}
	}
	return nil
}
