// Package process says what the kernel reports of another process.
package process

import (
	"bytes"
	"fmt"
	"os"
)

// Stopped reports whether a process is known to be stopped by a signal or a debugger
// (proc_pid_stat(5)).
func Stopped(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := bytes.Cut(stat, []byte(") "))
	return bytes.HasPrefix(state, []byte("T")) || bytes.HasPrefix(state, []byte("t"))
}
