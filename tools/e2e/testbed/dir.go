package testbed

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// TempDir creates a directory for files of this process, after it has removed those of processes
// that are gone. The name must be different each time.
func TempDir(name string) (string, error) {
	const prefix = "sluice-testbed."
	old, err := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	if err != nil {
		return "", err
	}
	for _, dir := range old {
		fields := strings.Split(filepath.Base(dir), ".") // prefix.PID.NAME
		if pid, err := strconv.Atoi(fields[1]); err == nil && !alive(pid) {
			if err := os.RemoveAll(dir); err != nil {
				return "", err
			}
		}
	}
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("%s%d.%s", prefix, os.Getpid(), name))
	return dir, os.Mkdir(dir, 0o700)
}

// alive reports whether a process of that number exists.
func alive(pid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	return !errors.Is(err, fs.ErrNotExist)
}
