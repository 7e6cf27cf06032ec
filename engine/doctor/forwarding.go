package doctor

// checkForwarding reports that the kernel forwards packets, which Sluice does not need.
func checkForwarding(b *Box) (all []Finding) {
	for _, f := range []struct{ path, name string }{
		{"proc/sys/net/ipv4/ip_forward", "IPv4"}, {"proc/sys/net/ipv6/conf/all/forwarding", "IPv6"},
	} {
		if n, ok := b.number(f.path); ok && n > 0 {
			all = append(all, found(Note, "turn it off unless the box is a router for other traffic, e.g. for the replies of tun and dr backends, or for what nat backends send of their own accord",
				"the kernel forwards %s, which Sluice does not need: it forwards the packets of services by itself", f.name))
		}
	}
	return all
}
