package doctor

import (
	"errors"
	"fmt"
)

// checkForwarding reports that the kernel does not forward the replies of tun and dr that come in
// here, and that it forwards although Sluice needs no forwarding.
func checkForwarding(b *Box) (all []Finding) {
	for _, f := range []struct {
		name, key string
		is4       bool
	}{{"IPv4", "net.ipv4.ip_forward", true}, {"IPv6", "net.ipv6.conf.all.forwarding", false}} {
		on := b.forwarding(f.is4) > 0
		fix := fmt.Sprintf("sysctl -w %s=1 (and keep it in /etc/sysctl.d)", f.key)
		if p := b.notForwarded(f.is4); p != nil {
			all = append(all, found(Problem, fix, "replies of service %s from %s come in at %s, and the kernel does not forward %s", list(p.Services), p.VIP, p.Port, f.name))
			continue
		}
		switch needed := b.oneWay(f.is4); {
		case !on && needed:
			all = append(all, found(Note, "nothing, if replies of tun and dr do not pass this box; else "+fix,
				"the kernel does not forward %s: replies of tun and dr backends that have this box as their router would be lost", f.name))
		case on && !needed:
			all = append(all, found(Note, "turn it off unless the box is a router for other traffic, or for what nat backends send of their own accord",
				"the kernel forwards %s, which Sluice does not need: it forwards the packets of services by itself", f.name))
		}
	}
	return all
}

// notForwarded returns a reply that came in while forwarding was off, or nil.
func (b *Box) notForwarded(is4 bool) *Passing {
	for i := range b.Passing {
		if p := &b.Passing[i]; p.VIP.Is4() == is4 && errors.Is(p.Err, errNotForwarding) {
			return p
		}
	}
	return nil
}
