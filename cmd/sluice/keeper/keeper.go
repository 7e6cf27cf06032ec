// Package keeper is `sluice keep`: a small parent process that holds what must outlive the daemon,
// and starts it again when it ends unexpectedly.
//
// # Protocol
//
// The keeper is to its child what systemd is to a service: it speaks sd_notify(3). The child stores
// descriptors (FDSTORE, FDSTOREREMOVE), and gets them back at its next start (LISTEN_FDS,
// LISTEN_FDNAMES; not LISTEN_PID, which only the child itself could set). It says that it is ready,
// and gives signs of life (WATCHDOG). If the keeper is itself the child of a service manager, all
// other messages go on to that.
//
// # Upgrade
//
// The child may name another process, which it has started, as the one that comes in its place
// (MAINPID). From then on that one is the child. The keeper is the parent of what its children
// leave behind (PR_SET_CHILD_SUBREAPER), so that it learns how it ends. If it ends twice within
// trialTime, the next start is that of the former executable again.
//
// # Limits
//
// The keeper has no packet path and reads no configuration. It knows no descriptor's meaning. When
// it is killed, the child goes on, and what the keeper held is the child's alone from then on.
//
// Run uses one goroutine, and two more: for messages, and to wait for the child. Sources:
// sd_notify(3), sd_listen_fds(3), systemd.service(5) on WatchdogSec and FileDescriptorStoreMax.
package keeper

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sluice/engine/process"
)

// Options are the settings of Run.
type Options struct {
	Path string   // the child's program
	Args []string // its arguments, without its name
	Log  *slog.Logger
	// StuckAfter is how long the child, once it is ready, may give no sign of life. The child can
	// set another time by WATCHDOG_USEC.
	StuckAfter time.Duration
}

// Bounds on the child's life.
const (
	maxTries  = 5                // starts in a row that do not last
	lasting   = 10 * time.Second // a child that is ready for so long has started well
	abortTime = time.Second      // from SIGABRT, for the stacks of goroutines, to SIGKILL
	stopTime  = 15 * time.Second // from SIGTERM to SIGKILL; the daemon's own bound is 12 s
	markTime  = time.Second      // for the last messages of a child that has ended
)

// pauses are the times before a start after ends in a row: the first is at once.
var pauses = [maxTries]time.Duration{0, 100 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second, 5 * time.Second}

// passedOn are the signals that the child gets.
var passedOn = []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2}

// Run runs the child until it ends as it was told to, or cannot be kept running, and returns its
// last exit status: 128 and the signal's number if a signal ended it. An error means that it could
// not be started.
func Run(o Options) (code int, err error) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, passedOn...)
	defer signal.Stop(signals)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("becoming the parent of what children leave behind: %w", err)
	}
	socket, err := listen()
	if err != nil {
		return 0, err
	}
	defer socket.close()
	k := &keeper{Options: o, signals: signals, socket: socket}
	defer k.store.close()
	defer k.trial.end()
	return k.run()
}

// keeper is the state of Run. The goroutine of Run owns it.
type keeper struct {
	Options
	signals  <-chan os.Signal
	socket   *socket
	store    store
	next     *child // comes in the place of the child; nil: none
	trial    trial  // of the executable that came last
	stopping bool   // a signal has asked for the end
	wasReady bool   // a child was ready, ever
}

func (k *keeper) run() (int, error) {
	for tries := 1; ; tries++ {
		c, err := k.start()
		if err != nil {
			return 0, err
		}
		c = k.followAll(c)
		status := c.status
		code := exitCode(status)
		k.died(c)
		switch {
		case k.stopping, code == 0:
			return code, nil
		case !k.wasReady && !status.Signaled():
			return code, nil // its own error says why
		case c.lasted():
			tries = 1
		case tries >= maxTries:
			k.Log.Error("giving up: the daemon has ended in each of the last starts", "event", "keep_gave_up", "starts", tries, "last", ending(status))
			return code, nil
		}
		pause := pauses[tries-1]
		k.Log.Error("the daemon ended and is started again", "event", "keep_restart", "ended", ending(status), "pause", pause, "descriptors", k.store.len())
		if !k.pause(pause) {
			return code, nil
		}
	}
}

// pause waits, and reports whether no signal asked for the end meanwhile.
func (k *keeper) pause(d time.Duration) bool {
	for timer := time.After(d); ; {
		select {
		case <-timer:
			return true
		case s := <-k.signals:
			if s == syscall.SIGTERM || s == syscall.SIGINT {
				return false
			}
		}
	}
}

// child is one run of the program.
type child struct {
	process *os.Process
	exe     *os.File // its executable; nil: it is not known
	ended   chan struct{}
	status  syscall.WaitStatus // once ended is closed
	ready   time.Time          // zero: not yet
	allowed time.Duration      // without a sign of life
	life    *time.Timer        // ends when the child must be killed; stopped: not yet
	aborted bool               // it has got SIGABRT
}

// lasted reports whether the child was ready for long enough to forget the ends before.
func (c *child) lasted() bool { return !c.ready.IsZero() && time.Since(c.ready) >= lasting }

// start starts the program with all stored descriptors.
func (k *keeper) start() (*child, error) {
	cmd := exec.Command(k.trial.path(k.Path), k.Args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	names := ""
	cmd.ExtraFiles, names = k.store.files()
	cmd.Env = append(k.socket.environment(k.StuckAfter), fmt.Sprintf("LISTEN_FDS=%d", len(cmd.ExtraFiles)), "LISTEN_FDNAMES="+names)
	// a terminal's ^C is for the keeper, which passes it on once
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", k.Path, err)
	}
	c := k.child(cmd.Process)
	go func() {
		_ = cmd.Wait() // its result is in cmd.ProcessState
		c.status = cmd.ProcessState.Sys().(syscall.WaitStatus)
		close(c.ended)
	}()
	return c, nil
}

// child returns the child that a process is.
func (k *keeper) child(p *os.Process) *child {
	c := &child{process: p, exe: executable(p.Pid), ended: make(chan struct{}), allowed: k.StuckAfter, life: time.NewTimer(time.Hour)}
	c.life.Stop()
	return c
}

// followAll follows a child, and those that come in its place, until the last one has ended.
func (k *keeper) followAll(c *child) *child {
	for {
		k.follow(c)
		if k.next == nil {
			return c
		}
		c, k.next = k.next, nil
		k.adopt(c)
	}
}

// follow handles signals and the child's messages until it has ended.
func (k *keeper) follow(c *child) {
	defer c.life.Stop()
	for {
		select {
		case <-c.ended:
			k.rest(c)
			return
		case m := <-k.socket.messages:
			k.message(c, m)
		case s := <-k.signals:
			k.signal(k.main(c), s)
		case <-k.main(c).life.C:
			k.kill(k.main(c))
		}
	}
}

// rest handles the messages that the child sent before it ended.
func (k *keeper) rest(c *child) {
	go k.socket.mark() // it may block until messages before it are read
	for timer := time.After(markTime); ; {
		select {
		case m := <-k.socket.messages:
			if m.pid == os.Getpid() {
				return
			}
			k.message(c, m)
		case <-timer:
			return
		}
	}
}

// signal passes a signal on.
func (k *keeper) signal(c *child, s os.Signal) {
	if s == syscall.SIGTERM || s == syscall.SIGINT {
		k.stopping = true
		c.life.Reset(stopTime)
	}
	_ = c.process.Signal(s) // it has ended: Wait says so
}

// kill ends a child that gives no sign of life. SIGABRT makes the Go runtime print what each
// goroutine does; a process that is stopped cannot handle it.
func (k *keeper) kill(c *child) {
	stopped := process.Stopped(c.process.Pid)
	switch {
	case k.stopping:
		k.Log.Error("the daemon does not stop and is killed", "event", "keep_kill", "pid", c.process.Pid, "after", stopTime)
	case !c.aborted:
		k.Log.Error("the daemon gives no sign of life and is killed", "event", "keep_kill", "pid", c.process.Pid, "for", c.allowed, "stopped_by_signal", stopped)
	}
	if stopped || c.aborted {
		_ = c.process.Kill()
		return
	}
	c.aborted = true
	_ = c.process.Signal(syscall.SIGABRT)
	c.life.Reset(abortTime)
}

// exitCode returns the status as a shell gives it.
func exitCode(s syscall.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}

// ending returns the status in words.
func ending(s syscall.WaitStatus) string {
	if s.Signaled() {
		return "by the signal " + s.Signal().String()
	}
	return fmt.Sprintf("with exit status %d", s.ExitStatus())
}
