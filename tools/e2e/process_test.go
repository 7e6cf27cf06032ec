package e2e_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"sluice/engine/cpu"
	"sluice/tools/e2e/testbed"
)

// rssKiB returns the resident memory of the daemon.
func rssKiB(t *testing.T, d *testbed.Daemon) (kib int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.Process.PID()))
	must(t, err)
	for line := range strings.Lines(string(status)) {
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
			return kib
		}
	}
	t.Fatalf("no VmRSS in:\n%s", status)
	return 0
}

// cpuTime returns the CPU time of the daemon on all CPUs, in user mode and in the kernel: fields 14
// and 15 of /proc/PID/stat, in 1/100 s (proc_pid_stat(5)).
func cpuTime(t *testing.T, d *testbed.Daemon) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.Process.PID()))
	must(t, err)
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var ticks [2]int64
	_, err = fmt.Sscan(strings.Join(fields[11:13], " "), &ticks[0], &ticks[1])
	must(t, err)
	return time.Duration(ticks[0]+ticks[1]) * time.Second / 100
}

// TestIdle: an idle daemon uses almost no CPU, also after it has worked. On a quiet machine it uses
// far less than is allowed here.
func TestIdle(t *testing.T) {
	b := bed(t)
	cfg := config(t, testbed.Paths...)
	allowed, err := cpu.Allowed()
	must(t, err)
	cfg.Engine.Cores = allowed[max(0, len(allowed)-2):]
	d := start(t, b, cfg)
	for _, p := range testbed.Paths {
		must(t, b.Download(ctxOf(t), p.URL(), 1<<20, 1))
	}
	_, err = d.Quiet(ctxOf(t))
	must(t, err)
	const watched = 3 * time.Second
	before := cpuTime(t, d)
	time.Sleep(watched) // event: none, because nothing must happen
	if used := cpuTime(t, d) - before; used > watched/20 {
		t.Errorf("the idle daemon used %v of %v", used, watched)
	}
}
