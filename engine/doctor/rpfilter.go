package doctor

import (
	"fmt"

	"sluice/conf"
)

// checkRPFilter reports strict reverse path filters. They drop a packet that arrives on another
// interface than the route to its source uses. Packets of services bypass the kernel, but replies
// to health checks do not.
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
		if max(global, own) != 1 { // the greater one applies; 2 is loose
			continue
		}
		severity := Note
		if checked && len(b.Config.Ports) > 1 {
			severity = Warning
		}
		all = append(all, found(severity, fmt.Sprintf("sysctl -w net.ipv4.conf.%s.rp_filter=2 (and keep it in /etc/sysctl.d)", l.Name),
			"port %s filters strictly by source address: replies to health checks are dropped if they arrive on another port than the route back uses", l.Name))
	}
	return all
}
