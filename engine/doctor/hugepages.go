package doctor

import (
	"fmt"
	"strings"

	"sluice/engine/platform/linux"
)

// checkHugePages reports missing huge pages. Frames and connection tables use huge pages of 2 MiB
// if there are enough, and plain ones otherwise.
func checkHugePages(b *Box) []Finding {
	reserved, free := 0, 0
	for line := range strings.Lines(b.text("proc/meminfo")) {
		_, _ = fmt.Sscanf(line, "HugePages_Total: %d", &reserved)
		_, _ = fmt.Sscanf(line, "HugePages_Free: %d", &free)
	}
	need := 0
	for _, l := range b.ports() {
		need += len(b.queuesOf(l)) * linux.BytesPerQueue
	}
	need = (need + 2<<20 - 1) / (2 << 20)
	if need == 0 || reserved-free >= need && b.Stats != nil || free >= need {
		return nil
	}
	return []Finding{found(Note, fmt.Sprintf("sysctl -w vm.nr_hugepages=%d (before the daemon starts; and more for the connection tables)", need),
		"%d huge pages are reserved and the frames would take %d: on plain pages each packet costs more TLB misses", reserved, need)}
}
