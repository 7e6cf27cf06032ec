package doctor

import (
	"fmt"
	"slices"

	"sluice/conf"
)

// checkRPFilter reports reverse path filters. A strict one drops a packet that comes in by another
// port than the route to its source uses, a loose one drops it if there is no such route. Packets
// of services bypass the kernel, but replies to health checks do not, and neither do those of tun
// and dr backends that have this machine as their router: their source is the service's address,
// which often has no route.
func checkRPFilter(b *Box) (all []Finding) {
	const fix = "sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.%s.rp_filter=0 (and keep it in /etc/sysctl.d)"
	kinds := map[int]string{1: "strictly", 2: "loosely"}
	dropped := b.risen("TcpExtIPReversePathFilter")
	if slices.ContainsFunc(b.ports(), func(l *Link) bool { return b.filtered(l.Name) != nil }) {
		dropped = 0 // by the port that is reported
	}
	for _, l := range b.ports() {
		kind := b.filters(l.Name)
		if kind == 0 {
			continue
		}
		cure := fmt.Sprintf(fix, l.Name)
		switch p := b.filtered(l.Name); {
		case p != nil:
			all = append(all, found(Problem, cure, "port %s filters %s by source address: it drops replies of service %s, which come in from %s", l.Name, kinds[kind], list(p.Services), p.VIP))
		case dropped > 0:
			all = append(all, found(Problem, cure, "the kernel has dropped %d packets within a second because of their source address (TcpExtIPReversePathFilter), and port %s filters %s", dropped, l.Name, kinds[kind]))
		case kind == 1 && (b.checked() && len(b.Config.Ports) > 1 || b.oneWay(true)), b.oneWay(true):
			all = append(all, found(Note, "nothing now; if replies get lost: "+cure,
				"port %s filters %s by source address: replies to health checks, and those of tun and dr that pass this box, are dropped if the route back to their source uses another port or does not exist", l.Name, kinds[kind]))
		}
	}
	return all
}

// filters returns how an interface filters: 0 not, 1 strictly, 2 loosely. The greater setting
// applies (Documentation/networking/ip-sysctl.rst).
func (b *Box) filters(name string) int {
	global, _ := b.number("proc/sys/net/ipv4/conf/all/rp_filter")
	own, _ := b.number("proc/sys/net/ipv4/conf/" + name + "/rp_filter")
	return max(global, own)
}

// filtered returns a reply that came in by an interface and was dropped by its filter, or nil.
func (b *Box) filtered(name string) *Passing {
	for i := range b.Passing {
		if p := &b.Passing[i]; p.Port == name && b.failsFilter(p) {
			return p
		}
	}
	return nil
}

// checked reports whether a service has health checks.
func (b *Box) checked() bool {
	for i := range b.Config.Services {
		if b.Config.Services[i].Health.Type != conf.HealthNone {
			return true
		}
	}
	return false
}
