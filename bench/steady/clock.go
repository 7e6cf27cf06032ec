package steady

import (
	"bytes"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// clock is the time that the stream has: it stands still while the kernel runs other programs on
// the worker's CPU, since that is not the daemon's doing. It goes on in all else that may keep a
// worker from its packets: what the worker itself does, and stops of the Go runtime. One thread
// uses it.
type clock struct {
	last    int64 // ns, of the call before
	stolen  int64 // ns for which the thread could have run, and did not
	delays  int   // file descriptor of the thread's schedstat; 0: not open
	content [96]byte
}

// started is when all clocks began.
var started = time.Now()

// gapNs is the least time between two calls after which the kernel is asked: a switch to another
// program and back takes a few microseconds.
const gapNs = 10_000

// now returns the time in ns.
func (c *clock) now() int64 {
	now := int64(time.Since(started))
	if now-c.last > gapNs {
		c.stolen = c.runDelayNs()
		now = int64(time.Since(started))
	}
	c.last = now
	return now - c.stolen
}

// runDelayNs returns for how long the thread has waited for the CPU (proc_pid_schedstat in the
// kernel's Documentation/scheduler/sched-stats.rst), 0 if the kernel does not count that.
func (c *clock) runDelayNs() int64 {
	if c.delays == 0 {
		c.delays, _ = unix.Open("/proc/thread-self/schedstat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	n, err := unix.Pread(c.delays, c.content[:], 0)
	if err != nil {
		return 0
	}
	_, text, _ := bytes.Cut(c.content[:n], []byte(" "))
	text, _, _ = bytes.Cut(text, []byte(" "))
	ns, _ := strconv.ParseInt(string(text), 10, 64)
	return ns
}

func (c *clock) close() {
	if c.delays > 0 {
		_ = unix.Close(c.delays)
	}
}
