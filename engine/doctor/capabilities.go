package doctor

import (
	"fmt"
	"strconv"
	"strings"
)

// Capability is a capability that the daemon needs.
type Capability struct {
	Name   string
	For    string // what it is needed for
	kernel string // the symptom without it, which is misleading
	bits   []uint // one of them is enough (include/uapi/linux/capability.h)
}

// CAP_SYS_ADMIN may stand in for CAP_BPF, as it does in the kernel.
var needed = []Capability{
	{"CAP_NET_ADMIN", "to attach XDP programs", `attaching the XDP program fails with "operation not permitted"`, []uint{12}},
	{"CAP_NET_RAW", "to open AF_XDP sockets", `opening AF_XDP sockets fails with "operation not permitted"`, []uint{13}},
	{"CAP_BPF", "to load XDP programs",
		`making BPF maps fails with "operation not permitted (MEMLOCK may be too low)", although memory is not the cause`, []uint{39, 21}},
}

const ipcLock = 14

// Lacking returns the needed capabilities that are missing among the effective ones.
func Lacking(effective uint64) (all []Capability) {
	for _, c := range needed {
		has := false
		for _, bit := range c.bits {
			has = has || effective&(1<<bit) != 0
		}
		if !has {
			all = append(all, c)
		}
	}
	return all
}

// Effective returns the effective capabilities in the text of a /proc/PID/status.
func Effective(status string) (uint64, error) {
	_, rest, found := strings.Cut(status, "\nCapEff:")
	line, _, _ := strings.Cut(rest, "\n")
	effective, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	if !found || err != nil {
		return 0, fmt.Errorf("/proc/self/status has no CapEff line that is a number: %q", line)
	}
	return effective, nil
}

// checkCapabilities checks the capabilities of this process if no daemon runs.
func checkCapabilities(b *Box) (all []Finding) {
	if b.Stats != nil {
		return nil // a running daemon has them
	}
	for _, c := range Lacking(b.Capabilities) {
		all = append(all, found(Problem, "run as root, or give the daemon AmbientCapabilities="+c.Name+" in its systemd unit",
			"this process has no %s: a daemon like it would not start, because %s", c.Name, c.kernel))
	}
	return all
}
