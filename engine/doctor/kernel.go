package doctor

import "fmt"

// The oldest kernel that Sluice supports, and the one from which on a system call sends more
// than 32 frames in copy mode (XDP_MAX_TX_SKB_BUDGET).
var (
	oldest = [2]int{6, 1}
	budget = [2]int{6, 17}
)

func checkKernel(b *Box) (all []Finding) {
	release := b.text("proc/sys/kernel/osrelease")
	var v [2]int
	if _, err := fmt.Sscanf(release, "%d.%d", &v[0], &v[1]); err == nil {
		switch {
		case older(v, oldest):
			all = append(all, found(Problem, "install a newer kernel", "Linux %s is older than %d.%d, the oldest that Sluice supports", release, oldest[0], oldest[1]))
		case older(v, budget):
			all = append(all, found(Note, "nothing needs to be done; a kernel from 6.17 on saves system calls in copy mode",
				"Linux %s sends 32 frames per system call in copy mode", release))
		}
	}
	if b.text("proc/sys/net/core/bpf_jit_enable") == "0" {
		all = append(all, found(Warning, "sysctl -w net.core.bpf_jit_enable=1", "BPF programs are interpreted, which makes steering slow"))
	}
	return all
}

func older(a, b [2]int) bool { return a[0] < b[0] || a[0] == b[0] && a[1] < b[1] }
