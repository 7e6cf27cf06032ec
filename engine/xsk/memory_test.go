package xsk

import (
	"math"
	"testing"
	"testing/fstest"
)

func TestLeftMemory(t *testing.T) {
	files := func(pairs ...string) fstest.MapFS {
		f := fstest.MapFS{}
		for i := 0; i < len(pairs); i += 2 {
			f[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1])}
		}
		return f
	}
	const meminfo = "MemTotal:  8000000 kB\nMemFree: 1 kB\nMemAvailable:    4000000 kB\nSwapFree:  1000000 kB\n"
	for name, test := range map[string]struct {
		root fstest.MapFS
		want uint64
	}{
		"nothing known": {files(), math.MaxUint64},
		"no groups":     {files("proc/meminfo", meminfo), 5_000_000 << 10},
		"no limit": {files("proc/meminfo", meminfo, "proc/self/cgroup", "0::/a/b\n",
			"sys/fs/cgroup/a/b/memory.max", "max\n", "sys/fs/cgroup/a/b/memory.current", "1000\n"), 5_000_000 << 10},
		"limit": {files("proc/meminfo", meminfo, "proc/self/cgroup", "0::/a/b\n",
			"sys/fs/cgroup/a/b/memory.max", "10000\n", "sys/fs/cgroup/a/b/memory.current", "4000\n"), 6000},
		"limit of the group above, and file cache": {files("proc/meminfo", meminfo, "proc/self/cgroup", "1:cpu:/x\n0::/a/b\n",
			"sys/fs/cgroup/a/b/memory.max", "max\n", "sys/fs/cgroup/a/memory.max", "10000\n",
			"sys/fs/cgroup/a/memory.current", "4000\n", "sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 3000\n"), 9000},
		"above the limit": {files("proc/self/cgroup", "0::/a\n",
			"sys/fs/cgroup/a/memory.max", "10\n", "sys/fs/cgroup/a/memory.current", "4000\n"), 0},
		"the root group": {files("proc/meminfo", meminfo, "proc/self/cgroup", "0::/\n"), 5_000_000 << 10},
	} {
		if got := LeftMemory(test.root); got != test.want {
			t.Errorf("%s: %d bytes, want %d", name, got, test.want)
		}
	}
}
