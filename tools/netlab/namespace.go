package netlab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// runDir is where ip-netns(8) looks for named namespaces.
const runDir = "/run/netns"

// prefix marks a namespace as one of this package.
const prefix = "netlab"

// maker is the process that made a namespace. The start time distinguishes it from a later process
// with the same PID.
type maker struct {
	pid        int
	startTicks uint64 // after boot, in clock ticks: field 22 of /proc/PID/stat, proc_pid_stat(5)
}

func thisProcess() (maker, error) {
	pid := os.Getpid()
	startTicks, _, err := processStart(pid)
	if err != nil {
		return maker{}, fmt.Errorf("netlab: cannot read the start time of this process (is /proc mounted?): %w", err)
	}
	return maker{pid, startTicks}, nil
}

// alive reports whether the maker still runs. It returns true if this is not known, because what
// may belong to a living process must not be touched.
func (m maker) alive() bool {
	startTicks, state, err := processStart(m.pid)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ESRCH)
	}
	isZombie := state == 'Z' || state == 'X'
	return startTicks == m.startTicks && !isZombie
}

func processStart(pid int) (startTicks uint64, state byte, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	// Field 2 is the command in parentheses and may contain any bytes, so fields are counted from
	// its end.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 20 {
		return 0, 0, fmt.Errorf("/proc/%d/stat has only %d fields after the command", pid, len(fields))
	}
	startTicks, err = strconv.ParseUint(fields[19], 10, 64)
	return startTicks, fields[0][0], err
}

// namespaceName returns prefix.LAB.HOST.PID.START.
func namespaceName(lab, host string, m maker) string {
	return strings.Join([]string{prefix, lab, host, strconv.Itoa(m.pid), strconv.FormatUint(m.startTicks, 36)}, ".")
}

// makerOf returns the maker in a name of namespaceName; false if it is no such name.
func makerOf(name string) (maker, bool) {
	f := strings.Split(name, ".")
	if len(f) != 5 || f[0] != prefix {
		return maker{}, false
	}
	pid, errPID := strconv.Atoi(f[3])
	startTicks, errStart := strconv.ParseUint(f[4], 36, 64)
	return maker{pid, startTicks}, errPID == nil && errStart == nil && pid > 0
}

// nsID identifies a namespace: device and inode of its nsfs file.
type nsID struct{ dev, ino uint64 }

func nsIDOf(path string) (nsID, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nsID{}, fmt.Errorf("%s: %w", path, err)
	}
	return nsID{st.Dev, st.Ino}, nil
}

// openRunDir makes runDir as ip-netns(8) does and locks it against other makers and sweepers until
// unlock is called. The directory is a shared mount, so that a namespace removed here also vanishes
// from the mount namespaces that `ip netns exec` and our own hosts have copied.
func openRunDir() (unlock func(), err error) {
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return nil, fmt.Errorf("netlab: %w", err)
	}
	dir, err := os.Open(runDir)
	if err != nil {
		return nil, fmt.Errorf("netlab: %w", err)
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		dir.Close()
		return nil, fmt.Errorf("netlab: locking %s: %w", runDir, err)
	}
	if err := shareRunDir(); err != nil {
		dir.Close()
		return nil, fmt.Errorf("netlab: making %s a shared mount: %w", runDir, err)
	}
	return func() { dir.Close() }, nil
}

func shareRunDir() error {
	share := func() error { return unix.Mount("", runDir, "none", unix.MS_SHARED|unix.MS_REC, "") }
	err := share()
	if !errors.Is(err, unix.EINVAL) { // EINVAL: not a mount point yet
		return err
	}
	if err := unix.Mount(runDir, runDir, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	return share()
}

// nameNamespace binds the calling thread's network namespace to a new file in runDir.
func nameNamespace(name string) error {
	path := filepath.Join(runDir, name)
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("namespace %s exists: this process has a lab and host of that name already", name)
	}
	if err != nil {
		return err
	}
	f.Close()
	if err := unix.Mount("/proc/thread-self/ns/net", path, "none", unix.MS_BIND, ""); err != nil {
		os.Remove(path)
		return fmt.Errorf("binding %s: %w", path, err)
	}
	return nil
}

// removeNamespace removes the name. The namespace ends with its last process, thread and file
// descriptor. It is no error if the name is gone already, because two sweeps may run at once.
func removeNamespace(name string) error {
	path := filepath.Join(runDir, name)
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	// EINVAL means that it is not mounted.
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmounting %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
