package doctor

// needs are the capabilities that the daemon can't do without, and what the kernel says in their absence, which
// leads astray (include/uapi/linux/capability.h).
var needs = []struct {
	name   string
	bits   []uint // one of them will do
	kernel string
}{
	{"CAP_NET_ADMIN", []uint{12}, `attaching the XDP program fails with "operation not permitted"`},
	{"CAP_NET_RAW", []uint{13}, `opening AF_XDP sockets fails with "operation not permitted"`},
	{"CAP_BPF", []uint{39, 21}, `making BPF maps fails with "operation not permitted (MEMLOCK may be too low)", although memory is not the cause`},
}

const ipcLock = 14

// checkCapabilities looks at this process, which stands for the daemon when that isn't running.
func checkCapabilities(b *Box) (all []Finding) {
	if b.Stats != nil {
		return nil // it runs: it has what it needs
	}
	for _, c := range needs {
		has := false
		for _, bit := range c.bits {
			has = has || b.Capabilities&(1<<bit) != 0
		}
		if !has {
			all = append(all, found(Problem, "run as root, or give the daemon AmbientCapabilities="+c.name+" in its systemd unit",
				"this process has no %s: a daemon like it would not start, because %s", c.name, c.kernel))
		}
	}
	return all
}
