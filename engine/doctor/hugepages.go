package doctor

import (
	"fmt"
	"strings"

	"sluice/engine/platform/linux"
)

// sharedPages is the file that says whether the kernel merges plain pages of memory that processes
// share into huge ones: memory that outlives the daemon at a holder. Its value is in brackets.
const sharedPages = "sys/kernel/mm/transparent_hugepage/shmem_enabled"

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
	fix := fmt.Sprintf("sysctl -w vm.nr_hugepages=%d (before the daemon starts; and more for the connection tables)", need)
	text := "%d huge pages are reserved and the frames would take %d: on plain pages each packet costs more TLB misses"
	if merging := b.text(sharedPages); strings.Contains(merging, "[never]") || strings.Contains(merging, "[deny]") {
		fix += "; or, for memory that outlives the daemon, echo advise > /" + sharedPages
		text += ", under systemd and sluice keep 6 to 8 ns, because shmem_enabled of transparent huge pages is " + bracketed(merging)
	}
	return []Finding{found(Note, fix, text, reserved, need)}
}

// bracketed returns the word in brackets.
func bracketed(s string) string {
	_, s, _ = strings.Cut(s, "[")
	s, _, _ = strings.Cut(s, "]")
	return s
}
