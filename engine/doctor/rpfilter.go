package doctor

import (
	"fmt"

	"sluice/conf"
)

// checkRPFilter: a strict filter drops what comes in by another interface than the way back leaves
// by. Packets of services pass by the kernel, but the answers to health checks do not.
func checkRPFilter(b *Box) (all []Finding) {
	if b.Config == nil {
		return nil
	}
	checked := false
	for _, s := range b.Config.Services {
		checked = checked || s.Health.Type != conf.HealthNone
	}
	global, _ := b.number("proc/sys/net/ipv4/conf/all/rp_filter")
	for _, l := range b.ports() {
		own, _ := b.number("proc/sys/net/ipv4/conf/" + l.Name + "/rp_filter")
		if max(global, own) != 1 { // the greater one holds; 2 is loose
			continue
		}
		severity := Note
		if checked && len(b.Config.Ports) > 1 {
			severity = Warning
		}
		all = append(all, found(severity, fmt.Sprintf("sysctl -w net.ipv4.conf.%s.rp_filter=2 (and keep it in /etc/sysctl.d)", l.Name),
			"port %s filters strictly by source address: answers to health checks that come in by another port than the way back leaves by are dropped", l.Name))
	}
	return all
}
