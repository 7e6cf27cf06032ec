package flooding

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"sluice/tools/e2e/testbed"
)

// usage is the CPU time that this measurement has used at a time: daemon, clients, servers and the
// generator, and the kernel's threads for packets. What else runs on the machine does not count.
type usage struct {
	at    time.Time
	ticks float64 // clock ticks, of 10 ms
}

// idleSince returns the part of all CPUs that was not used.
func (u usage) idleSince(before usage) float64 {
	const ticksPerSecond = 100 // USER_HZ
	return 1 - (u.ticks-before.ticks)/ticksPerSecond/u.at.Sub(before.at).Seconds()/float64(runtime.NumCPU())
}

func (l *lab) usage() usage {
	u := usage{at: time.Now()}
	pids, _ := testbed.Children()
	for _, pid := range append(append(pids, os.Getpid()), l.softirqs...) {
		u.ticks += ticks(pid)
	}
	return u
}

// softirqThreads returns the kernel's threads that process packets.
func softirqThreads() (pids []int) {
	names, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, path := range names {
		name, err := os.ReadFile(path)
		if err != nil || !bytes.HasPrefix(name, []byte("ksoftirqd/")) {
			continue
		}
		pid := 0
		_, _ = fmt.Sscanf(path, "/proc/%d/", &pid)
		pids = append(pids, pid)
	}
	return pids
}

// ticks returns the CPU time of a process (proc_pid_stat(5)), 0 if it has ended.
func ticks(pid int) (sum float64) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	const utime, stime = 11, 12 // after the command
	for _, i := range []int{utime, stime} {
		n := 0.0
		_, _ = fmt.Sscan(string(fields[i]), &n)
		sum += n
	}
	return sum
}

// prefer gives the threads of a process the highest priority: a balancer has CPUs of its own, and
// here it shares them with generator, clients and servers.
func prefer(pid int) error {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*", pid))
	for _, path := range tasks {
		tid := 0
		if _, err := fmt.Sscan(filepath.Base(path), &tid); err != nil {
			return err
		}
		if err := unix.Setpriority(unix.PRIO_PROCESS, tid, -20); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("priority of the daemon's thread %d: %w", tid, err)
		}
	}
	return err
}
