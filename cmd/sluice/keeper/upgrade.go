package keeper

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds on the trial of an executable that came by an upgrade.
const (
	trialTime   = 30 * time.Second // from the upgrade on
	trialDeaths = 2                // within it: then the former executable is started
)

// trial is what the keeper knows of an executable that came by an upgrade, and of the one before.
type trial struct {
	exe    string   // path to start; "": that of Options
	former *os.File // the executable before; nil: there is none to go back to
	began  time.Time
	deaths int
}

// begin begins the trial of a child's executable.
func (t *trial) begin(former, now *child) {
	t.end()
	t.former, t.began, t.deaths = former.exe, now.ready, 0
	former.exe = nil
	if path, err := os.Readlink(procPath(now.process.Pid, "exe")); err == nil {
		t.exe = path
	}
}

// path returns the program to start.
func (t *trial) path(configured string) string {
	if t.exe == "" {
		return configured
	}
	return t.exe
}

// died notes that a child has died, and reports whether the former executable is to be started from
// now on.
func (t *trial) died() bool {
	if t.former == nil || time.Since(t.began) > trialTime {
		return false
	}
	if t.deaths++; t.deaths != trialDeaths {
		return false
	}
	// the file may have been replaced at its path; the descriptor still has it
	t.exe = procPath(os.Getpid(), fmt.Sprintf("fd/%d", t.former.Fd()))
	return true
}

// end forgets the former executable.
func (t *trial) end() {
	if t.former != nil {
		t.former.Close()
		t.former = nil
	}
}

// died notes that a child has died.
func (k *keeper) died(c *child) {
	if c.exe != nil {
		c.exe.Close()
	}
	if k.stopping || exitCode(c.status) == 0 || !k.trial.died() {
		return
	}
	k.Log.Error("the executable of the upgrade has ended twice: the former one is started again", "event", "keep_former",
		"within", trialTime, "ended", ending(c.status))
}

// main returns the child, or the one that comes in its place.
func (k *keeper) main(c *child) *child {
	if k.next != nil {
		return k.next
	}
	return c
}

// succeed makes another process of the child's the child.
func (k *keeper) succeed(c *child, pid int) {
	p, err := os.FindProcess(pid)
	if err == nil {
		err = p.Signal(syscall.Signal(0))
	}
	if err != nil {
		k.Log.Error("the process that is to come in the daemon's place does not exist", "pid", pid, "error", err)
		return
	}
	k.next = k.child(p)
	k.next.ready, k.next.allowed = time.Now(), c.allowed
	k.next.life.Reset(c.allowed)
	c.life.Stop()
	k.trial.begin(c, k.next)
	k.Log.Info("another process takes the daemon's place", "event", "keep_upgrade", "pid", pid, "former", c.process.Pid)
}

// adopt waits for the end of a process that the former child has left to the keeper.
func (k *keeper) adopt(c *child) {
	go func() {
		c.status = 1 << 8 // exit status 1, if it died before its parent did
		if state, err := c.process.Wait(); err == nil {
			c.status = state.Sys().(syscall.WaitStatus)
		}
		close(c.ended)
	}()
}

// executable returns the executable of a process, nil if it cannot be had.
func executable(pid int) *os.File {
	path := procPath(pid, "exe")
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), path)
}

func procPath(pid int, name string) string { return fmt.Sprintf("/proc/%d/%s", pid, name) }
