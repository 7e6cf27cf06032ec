package doctor

import (
	"fmt"
	"slices"

	"sluice/engine/cpu"
)

// checkCPU only reports notes: these things cost a few per cent, or a few microseconds.
func checkCPU(b *Box) (all []Finding) {
	var slow []int
	governor := ""
	for _, core := range b.cores() {
		if g := b.text(fmt.Sprintf("sys/devices/system/cpu/cpu%d/cpufreq/scaling_governor", core)); g != "" && g != "performance" {
			slow, governor = append(slow, core), g
		}
	}
	if len(slow) > 0 {
		all = append(all, found(Note, "cpupower frequency-set -g performance",
			"CPU %s of the workers change their frequency (governor %s): the first packets after a pause are slow", cpu.FormatList(slow), governor))
	}
	isolated, err := cpu.ParseList(b.text("sys/devices/system/cpu/isolated"))
	if err != nil {
		return all
	}
	var shared []int
	for _, core := range b.cores() {
		if !slices.Contains(isolated, core) {
			shared = append(shared, core)
		}
	}
	if len(shared) > 0 {
		slices.Sort(shared)
		all = append(all, found(Note, "for the lowest latency, isolcpus="+cpu.FormatList(shared)+" on the kernel's command line, or CPUAffinity= for all other services",
			"other processes may run on CPU %s of the workers", cpu.FormatList(shared)))
	}
	return all
}
