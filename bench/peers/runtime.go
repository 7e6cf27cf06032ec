package peers

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ranNs returns how long all threads of a process have run so far, in the program and in the
// kernel, softirqs included that the kernel ran on top of them (/proc/PID/task/TID/schedstat,
// Documentation/scheduler/sched-stats.rst).
func ranNs(pid int) (total float64) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid)) // the pattern is right
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		ran, _, _ := strings.Cut(string(text), " ")
		ns, _ := strconv.ParseFloat(ran, 64)
		total += ns
	}
	return total
}
