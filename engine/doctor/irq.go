package doctor

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sluice/engine/cpu"
)

// checkIRQ reports interrupts on other CPUs than their workers. The kernel's part of a queue -
// driver, XDP program, copy - runs on the CPU that the queue's interrupt goes to. On the worker's
// own CPU it stays in its caches; on a CPU of another worker it takes that one's time.
func checkIRQ(b *Box) (all []Finding) {
	cores := b.cores()
	if len(cores) == 0 {
		return nil
	}
	for _, l := range b.ports() {
		irqs := b.interrupts(l)
		var wrong, example []string
		for _, queue := range b.queuesOf(l) {
			irq, ok := irqs[queue]
			if !ok {
				continue
			}
			target := cores[cpu.WorkerOf(queue, len(cores))]
			have, err := cpu.ParseList(b.text(fmt.Sprintf("proc/irq/%d/effective_affinity_list", irq)))
			if err != nil || len(have) == 0 {
				have, err = cpu.ParseList(b.text(fmt.Sprintf("proc/irq/%d/smp_affinity_list", irq)))
			}
			if err != nil || len(have) == 0 || slices.Equal(have, []int{target}) {
				continue
			}
			wrong = append(wrong, fmt.Sprintf("queue %d on CPU %s, its worker on %d", queue, cpu.FormatList(have), target))
			example = append(example, fmt.Sprintf("echo %d > /proc/irq/%d/smp_affinity_list", target, irq))
		}
		if len(wrong) > 0 {
			all = append(all, found(Warning, strings.Join(example[:min(4, len(example))], "; ")+" (and stop irqbalance, or ban these CPUs in it)",
				"interrupts of port %s go to other CPUs than its workers: %s", l.Name, list(wrong)))
		}
	}
	return all
}

// interrupts returns the number of the interrupt of each RX queue in /proc/interrupts, by the names
// that drivers give them: eth0-TxRx-0, eth0-rx-0, ice-eth0-TxRx-0, mlx5_comp0@pci:...,
// virtio0-input.0.
func (b *Box) interrupts(l *Link) map[int]int {
	all := map[int]int{}
	device := b.deviceIRQs(l)
	for line := range strings.Lines(b.text("proc/interrupts")) {
		number, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
		irq, err := strconv.Atoi(number)
		words := strings.Fields(rest)
		if !ok || err != nil || len(words) == 0 {
			continue
		}
		name := words[len(words)-1]
		if !strings.Contains(name, l.Name+"-") && !device[irq] {
			continue
		}
		name, _, _ = strings.Cut(name, "@")
		if lower := strings.ToLower(name); strings.Contains(lower, "output") || strings.Contains(lower, "-tx-") || strings.Contains(lower, "async") {
			continue
		}
		digits := len(name) - len(strings.TrimRight(name, "0123456789"))
		if queue, err := strconv.Atoi(name[len(name)-digits:]); err == nil {
			if _, taken := all[queue]; !taken {
				all[queue] = irq
			}
		}
	}
	return all
}

// deviceIRQs returns the interrupts of a card from sysfs.
func (b *Box) deviceIRQs(l *Link) map[int]bool {
	all := map[int]bool{}
	for _, name := range b.dir("sys/class/net/" + l.Name + "/device/msi_irqs") {
		if n, err := strconv.Atoi(name); err == nil {
			all[n] = true
		}
	}
	return all
}
