package doctor

import (
	"fmt"

	"sluice/engine/cpu"
)

// checkNUMA reports workers on another NUMA node than their ports. A worker on another node than
// its card reaches every packet through the other node's memory.
func checkNUMA(b *Box) (all []Finding) {
	for _, l := range b.ports() {
		node := cpu.NodeOfInterface(b.FS, l.Name)
		if node < 0 {
			continue
		}
		var far []int
		for _, core := range b.cores() {
			if at := cpu.NodeOf(b.FS, core); at >= 0 && at != node {
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
