package doctor

import (
	"fmt"
	"strconv"
	"strings"
)

// Capability is one that the daemon can't do without.
type Capability struct {
	Name   string
	For    string // what it is needed for
	kernel string // what the kernel says in its absence, which leads astray
	bits   []uint // one of them will do (include/uapi/linux/capability.h)
}

// CAP_SYS_ADMIN may stand in for CAP_BPF, as it does in the kernel.
var needed = []Capability{
	{"CAP_NET_ADMIN", "to attach XDP programs", `attaching the XDP program fails with "operation not permitted"`, []uint{12}},
	{"CAP_NET_RAW", "to open AF_XDP sockets", `opening AF_XDP sockets fails with "operation not permitted"`, []uint{13}},
	{"CAP_BPF", "to load XDP programs",
		`making BPF maps fails with "operation not permitted (MEMLOCK may be too low)", although memory is not the cause`, []uint{39, 21}},
}

const ipcLock = 14

// Lacking lists the needed capabilities that are not among the effective ones.
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

// Effective reads the effective capabilities out of a /proc/PID/status.
func Effective(status string) (uint64, error) {
	_, rest, found := strings.Cut(status, "\nCapEff:")
	line, _, _ := strings.Cut(rest, "\n")
	effective, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	if !found || err != nil {
		return 0, fmt.Errorf("/proc/self/status has no CapEff line that is a number: %q", line)
	}
	return effective, nil
}

// checkCapabilities looks at this process, which stands for the daemon when that isn't running.
func checkCapabilities(b *Box) (all []Finding) {
	if b.Stats != nil {
		return nil // it runs: it has what it needs
	}
	for _, c := range Lacking(b.Capabilities) {
		all = append(all, found(Problem, "run as root, or give the daemon AmbientCapabilities="+c.Name+" in its systemd unit",
			"this process has no %s: a daemon like it would not start, because %s", c.Name, c.kernel))
	}
	return all
}
