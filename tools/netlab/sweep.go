package netlab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// killTimeout bounds the wait for processes to end after SIGKILL.
const killTimeout = 10 * time.Second

// sweep removes the namespaces of makers that are dead, and kills the processes in them. The caller
// holds the lock of openRunDir.
func sweep() error {
	entries, err := os.ReadDir(runDir)
	if err != nil {
		return fmt.Errorf("netlab: %w", err)
	}
	var dead []string
	spaces := map[nsID]bool{}
	for _, e := range entries {
		m, ours := makerOf(e.Name())
		if !ours || m.alive() || e.IsDir() { // no namespace is a directory
			continue
		}
		dead = append(dead, e.Name())
		if id, err := nsIDOf(filepath.Join(runDir, e.Name())); err == nil {
			spaces[id] = true
		}
	}
	errs := []error{killIn(spaces)}
	for _, name := range dead {
		errs = append(errs, removeNamespace(name))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("netlab: removing what a killed run left behind: %w", err)
	}
	return nil
}

// killIn kills the processes that have their main thread in one of the namespaces, except this
// process, and returns when they are gone. It repeats until it finds none, because a process may
// fork while it is being killed.
func killIn(spaces map[nsID]bool) error {
	if len(spaces) == 0 {
		return nil
	}
	for deadline := time.Now().Add(killTimeout); ; {
		pids, err := processesIn(spaces)
		if err != nil || len(pids) == 0 {
			return err
		}
		if !time.Now().Before(deadline) {
			return fmt.Errorf("processes %v are still there %v after SIGKILL", pids, killTimeout)
		}
		for _, pid := range pids {
			if err := killOne(pid, spaces, deadline); err != nil {
				return fmt.Errorf("killing process %d: %w", pid, err)
			}
		}
	}
}

// processesIn lists processes by /proc/PID/ns/net. A zombie has no namespace any more.
func processesIn(spaces map[nsID]bool) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err == nil && pid != os.Getpid() && isIn(pid, spaces) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func isIn(pid int, spaces map[nsID]bool) bool {
	id, err := nsIDOf(fmt.Sprintf("/proc/%d/ns/net", pid))
	return err == nil && spaces[id]
}

// killOne uses a pidfd, so that a process that got the same PID meanwhile is not killed.
func killOne(pid int, spaces map[nsID]bool, deadline time.Time) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) { // EINVAL: a dying thread is left
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !isIn(pid, spaces) {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	for time.Now().Before(deadline) {
		wait := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(wait, int(time.Until(deadline).Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if n > 0 {
			return nil
		}
	}
	return nil
}
