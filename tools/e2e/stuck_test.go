package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/engine/api"
	"sluice/tools/e2e/testbed"
)

// hang bounds the answer of a verb while a worker is stuck. A quiet machine takes at most 2 s.
const hang = 10 * time.Second

// TestStuckWorker: one of two workers does not return from a system call. Every verb answers with
// what the daemon knows and exits with 1; orders are in force for the other worker at once. Status,
// log, metric, JSON and top name the worker. When it goes on, all is well again and the orders are
// in force for it too. The daemon stops, also while a worker is stuck.
func TestStuckWorker(t *testing.T) {
	b := newBed(t, testbed.Options{Name: "e2e-stuck", Queues: 2})
	cfg := config(t, nat4)
	cfg.Engine.Cores, cfg.Engine.StuckAfter = cores(t, 2), "5m"
	d := start(t, b, cfg)
	name, first := cfg.Services[0].Name, fmt.Sprintf("%s:%d", cfg.Services[0].Backends[0].Address, cfg.Services[0].Backends[0].Port)
	second := fmt.Sprintf("%s:%d", cfg.Services[0].Backends[1].Address, cfg.Services[0].Backends[1].Port)
	wantSpread(t, b.Ask(ctxOf(t), nat4.URL(), 6), [3]int{2, 2, 2})

	thaw := freeze(t, d, cfg.Engine.Cores[1])
	cfg.Services[1].Scheduler = "lc"
	must(t, d.Write(cfg))
	const silent, applied = "worker 1 has not answered", "applied, worker 1 has not taken it up"
	ask := func(says, prints string, args ...string) {
		t.Helper()
		began := time.Now()
		r, err := b.Run(ctxOf(t), append(args, "--socket", d.Socket)...)
		took := time.Since(began)
		must(t, err)
		t.Logf("%v: %v", args, took.Round(time.Millisecond))
		if r.Code != 1 || took > hang || !strings.Contains(r.Stderr, says) || !strings.Contains(r.Stdout, prints) {
			t.Errorf("%v: exit code %d after %v\n%s\n%s", args, r.Code, took, r.Stdout, r.Stderr)
		}
	}
	ask(silent, first, "list")
	ask(silent, "forwarded", "stats")
	ask(silent, "", "conns")
	ask(silent, "", "top", "--once")
	ask(silent, "worker 1 does not answer", "explain", "tcp", nat4.Client().String(), web(nat4))
	ask(applied, "weight 7", "weight", name, second, "7")
	ask(applied, "weight 0", "drain", name, first)
	ask(applied, cfg.Services[1].Name, "reload")
	poll(t, "status names worker 1", func() error {
		status, err := d.API.Status(ctxOf(t))
		if err == nil && !strings.Contains(strings.Join(status.Attention, "\n"), "worker 1 (CPU") {
			err = fmt.Errorf("it says %v", status.Attention)
		}
		return err
	})
	ask("worker 1 (CPU", "worker 1 (CPU", "status")
	ask(silent, "w1 STUCK", "top", "--once")
	for path, names := range map[string]string{
		"/metrics":   fmt.Sprintf("sluice_worker_stuck{cpu=\"%d\",worker=\"1\"} 1\n", cfg.Engine.Cores[1]),
		"/v1/alarms": "worker 1 (CPU",
		"/v1/stats":  `"stuck_s"`,
	} {
		if text, err := get(d, path); err != nil || !strings.Contains(text, names) {
			t.Errorf("%s does not have %s: %v\n%s", path, names, err, text)
		}
	}
	_, err := d.Process.WaitLine(ctxOf(t), "event=worker_stuck worker=1")
	must(t, err)

	must(t, thaw())
	_, err = d.Process.WaitLine(ctxOf(t), "event=worker_back worker=1")
	must(t, err)
	_, err = d.Verb(ctxOf(t), "status")
	must(t, err)
	services, err := d.API.List(ctxOf(t))
	must(t, err)
	if got := services[0].Backends; got[0].State != api.StateDrain || got[1].Weight != 7 || services[1].Scheduler != "lc" {
		t.Errorf("the orders are not in force: %+v", services)
	}
	wantSpread(t, b.Ask(ctxOf(t), nat4.URL(), 6), [3]int{0, 3, 3})

	freeze(t, d, cfg.Engine.Cores[1])
	must(t, d.Process.Signal(syscall.SIGTERM))
	select {
	case <-d.Process.Ended():
	case <-ctxOf(t).Done():
		t.Fatal("the daemon does not stop while a worker is stuck")
	}
	if log := d.Process.Output(); !strings.Contains(log, "these do not respond: 1 (CPU") {
		t.Error("the log does not say which worker kept the daemon from a clean stop")
	}
}

// freeze stops the thread of the worker on a CPU while it is in ppoll(2), as if the kernel did not
// return from it, until thaw is called or the test ends. The rest of the process goes on: to the Go
// runtime the thread is in a system call.
func freeze(t *testing.T, d *testbed.Daemon, core int) (thaw func() error) {
	t.Helper()
	tid, err := threadOn(d.Process.PID(), core)
	must(t, err)
	frozen, release, ended := make(chan error), make(chan struct{}), make(chan error, 1)
	go func() { // only the thread that began to trace may go on with it
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := stopInPoll(d.Process.PID(), tid)
		frozen <- err
		if err == nil {
			ended <- holdUntil(release, tid)
		}
	}()
	if err := <-frozen; err != nil {
		t.Fatalf("thread %d of the worker on CPU %d cannot be stopped: %v", tid, core, err)
	}
	thaw = sync.OnceValue(func() error { close(release); return <-ended })
	t.Cleanup(func() { must(t, thaw()) })
	return thaw
}

// holdUntil keeps a traced thread stopped until release is closed, or the process has been killed,
// which does not end before its tracer has seen the end of the thread.
func holdUntil(release <-chan struct{}, tid int) error {
	for {
		select {
		case <-release:
			return unix.PtraceDetach(tid)
		case <-time.After(10 * time.Millisecond):
		}
		var status unix.WaitStatus
		if ended, err := unix.Wait4(tid, &status, unix.WALL|unix.WNOHANG, nil); err != nil || ended == tid && !status.Stopped() {
			return err
		}
	}
}

// threadOn returns the thread of a process that is bound to one CPU.
func threadOn(pid, core int) (tid int, err error) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return 0, err
	}
	for _, task := range tasks {
		tid, _ = strconv.Atoi(task.Name())
		var set unix.CPUSet
		if err := unix.SchedGetaffinity(tid, &set); err == nil && set.Count() == 1 && set.IsSet(core) {
			return tid, nil
		}
	}
	return 0, fmt.Errorf("process %d has no thread on CPU %d alone", pid, core)
}

// stopInPoll traces a thread and stops it in ppoll(2), see ptrace(2). The calling thread is the
// tracer.
func stopInPoll(pid, tid int) error {
	if err := unix.PtraceSeize(tid); err != nil {
		return err
	}
	const eventStop = 128 // PTRACE_EVENT_STOP
	for deadline := time.Now().Add(waitLimit); time.Now().Before(deadline); {
		if err := unix.PtraceInterrupt(tid); err != nil {
			return err
		}
		var status unix.WaitStatus
		if _, err := unix.Wait4(tid, &status, unix.WALL, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if !status.Stopped() {
			return fmt.Errorf("it ended: %#x", status)
		}
		signal := status.StopSignal()
		if status>>16 == eventStop {
			signal = 0
			// The number of the system call comes first, -1 in none.
			call, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "task", strconv.Itoa(tid), "syscall"))
			if err != nil {
				return err
			}
			if name, _, _ := strings.Cut(string(call), " "); name == strconv.Itoa(unix.SYS_PPOLL) {
				return nil
			}
		}
		if err := unix.PtraceCont(tid, int(signal)); err != nil {
			return err
		}
		time.Sleep(time.Millisecond) // event: none, it needs time to become idle
	}
	return syscall.ETIMEDOUT
}
