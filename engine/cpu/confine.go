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
	done := make(map[int]bool)
	for news := true; news; { // an unbound thread may have started another meanwhile
		news = false
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("confine to CPUs %s: %w", FormatList(cpus), err)
		}
		for _, task := range tasks {
			tid, err := strconv.Atoi(task.Name())
			if err != nil || done[tid] {
				continue
			}
			done[tid], news = true, true
			if err := unix.SchedSetaffinityDynamic(tid, set); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("confine thread %d to CPUs %s: %w", tid, FormatList(cpus), err)
			}
		}
	}
	return nil
}
