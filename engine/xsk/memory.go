package xsk

import (
	"fmt"
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
)

// LeftMemory returns how many bytes of memory this process can still get: the smaller of what the
// machine has left and what its control groups (version 2) allow. root is the root directory, of
// which only proc and sys are read.
func LeftMemory(root fs.FS) uint64 {
	left := uint64(math.MaxUint64)
	available, swap := uint64(0), uint64(0)
	if text, err := fs.ReadFile(root, "proc/meminfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			_, _ = fmt.Sscanf(line, "MemAvailable: %d kB", &available)
			_, _ = fmt.Sscanf(line, "SwapFree: %d kB", &swap)
		}
		if available > 0 {
			left = (available + swap) << 10
		}
	}
	text, _ := fs.ReadFile(root, "proc/self/cgroup")
	for line := range strings.Lines(string(text)) {
		if group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::/"); ok {
			for ; group != "."; group = path.Dir(group) {
				left = min(left, leftInGroup(root, path.Join("sys/fs/cgroup", group)))
			}
		}
	}
	return left
}

// leftInGroup returns what a control group may still allocate. The kernel reclaims the group's file
// cache before it refuses memory.
func leftInGroup(root fs.FS, dir string) uint64 {
	number := func(file string) (n uint64, ok bool) {
		text, err := fs.ReadFile(root, path.Join(dir, file))
		if err == nil {
			n, err = strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
		}
		return n, err == nil
	}
	most, limited := number("memory.max")
	used, known := number("memory.current")
	if !limited || !known {
		return math.MaxUint64
	}
	cached := uint64(0)
	stat, _ := fs.ReadFile(root, path.Join(dir, "memory.stat"))
	for line := range strings.Lines(string(stat)) {
		_, _ = fmt.Sscanf(line, "inactive_file %d", &cached)
	}
	return most - min(most, used-min(used, cached))
}
