package doctor

import (
	"fmt"

	"sluice/pipeline/service"
)

// checkPortRange reports how many ports fullnat has. On an address that the kernel uses too,
// fullnat leaves the kernel's ports alone.
func checkPortRange(b *Box) (all []Finding) {
	if b.Config == nil {
		return nil
	}
	first, last := 32768, 60999
	if _, err := fmt.Sscan(b.text("proc/sys/net/ipv4/ip_local_port_range"), &first, &last); err != nil {
		return nil
	}
	seen := map[string]bool{}
	for _, s := range b.Config.Services {
		if s.Mode != service.FullNAT {
			continue
		}
		for _, a := range s.Source {
			owner := b.onInterface(a)
			if owner == "" || seen[a.String()] {
				continue
			}
			seen[a.String()] = true
			left := 64512 - (min(last, 65535) - max(first, 1024) + 1)
			severity := Note
			if left < 16384 {
				severity = Warning
			}
			all = append(all, found(severity, "give fullnat addresses of its own, routed to this box and on no interface, or narrow net.ipv4.ip_local_port_range",
				"fullnat shares the source %s with the kernel (%s), which keeps ports %d to %d: %d of 64512 are left for each backend", a, owner, first, last, left))
		}
	}
	return all
}
