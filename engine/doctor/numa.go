package doctor

import (
	"fmt"
	"strings"

	"sluice/engine/cpu"
)

// checkNUMA: a worker on another node than its card reaches every packet through the other node's memory.
func checkNUMA(b *Box) (all []Finding) {
	for _, l := range b.ports() {
		node, ok := b.number("sys/class/net/" + l.Name + "/device/numa_node")
		if !ok || node < 0 {
			continue
		}
		var far []int
		for _, core := range b.cores() {
			if at := b.nodeOf(core); at >= 0 && at != node {
				far = append(far, core)
			}
		}
		if len(far) > 0 {
			near := or(b.text(fmt.Sprintf("sys/devices/system/node/node%d/cpulist", node)), "of that node")
			all = append(all, found(Warning, "name CPUs "+near+" in [engine] cores, or put the card into a slot of the other node",
				"port %s is on NUMA node %d and the workers on CPU %s are not", l.Name, node, cpu.FormatList(far)))
		}
	}
	return all
}

// nodeOf is the NUMA node of a CPU, -1 if the kernel doesn't say.
func (b *Box) nodeOf(core int) int {
	for _, name := range b.dir(fmt.Sprintf("sys/devices/system/cpu/cpu%d", core)) {
		var node int
		if strings.HasPrefix(name, "node") {
			if _, err := fmt.Sscanf(name, "node%d", &node); err == nil {
				return node
			}
		}
	}
	return -1
}
