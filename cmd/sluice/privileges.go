package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// needed are the capabilities that run cannot do without, by their bits (include/uapi/linux/capability.h).
// CAP_SYS_ADMIN may stand in for CAP_BPF, as it does in the kernel.
var needed = []struct {
	name string
	bits []uint
	why  string
}{
	{"CAP_NET_ADMIN", []uint{12}, "to attach XDP programs"},
	{"CAP_NET_RAW", []uint{13}, "to open AF_XDP sockets"},
	{"CAP_BPF", []uint{39, 21}, "to load XDP programs"},
}

// checkPrivileges says what this process may not do that run has to do.
func checkPrivileges() error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return fmt.Errorf("capabilities of this process: %w", err)
	}
	return privilegesIn(string(status))
}

// privilegesIn reads the effective capabilities out of a /proc/PID/status.
func privilegesIn(status string) error {
	_, rest, found := strings.Cut(status, "\nCapEff:")
	line, _, _ := strings.Cut(rest, "\n")
	effective, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	if !found || err != nil {
		return fmt.Errorf("/proc/self/status has no CapEff line that is a number: %q", line)
	}
	var missing []string
	for _, capability := range needed {
		has := false
		for _, bit := range capability.bits {
			has = has || effective&(1<<bit) != 0
		}
		if !has {
			missing = append(missing, capability.name+" ("+capability.why+")")
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("run needs root, or these capabilities that the process does not have: %s", strings.Join(missing, ", "))
}
