package testbed

import (
	"fmt"
	"os"
)

// Usage is what a process uses.
type Usage struct {
	RSSKiB int // of memory that is resident
	Files  int // open
}

// UsageOf returns what a process uses.
func UsageOf(pid int) (u Usage, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return u, err
	}
	var pages [2]int
	if _, err := fmt.Sscan(string(text), &pages[0], &pages[1]); err != nil {
		return u, err
	}
	u.RSSKiB = pages[1] * os.Getpagesize() / 1024
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	u.Files = len(files)
	return u, err
}
