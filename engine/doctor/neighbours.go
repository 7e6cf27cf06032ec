package doctor

import "net/netip"

// checkNeighbours reports next hops without a MAC address: nothing can be sent to them. A running
// daemon makes the kernel resolve them.
func checkNeighbours(b *Box) (all []Finding) {
	seen := map[netip.Addr]bool{}
	for _, t := range b.targets() {
		r, err := b.Route(t.address)
		l := b.linkByIndex(r.Ifindex)
		if err != nil || r.Local || l == nil || b.portByIndex(r.Ifindex) == nil {
			continue // checkRoutes reports it
		}
		hop, what := t.address, "backend "+t.who()
		if r.Gateway.IsValid() {
			hop, what = r.Gateway, "gateway "+r.Gateway.String()+" to backend "+t.who()
		}
		if seen[hop] {
			continue
		}
		seen[hop] = true
		asks := "ARP"
		if hop.Is6() {
			asks = "neighbour discovery"
		}
		switch state := b.Neighbour(r.Ifindex, hop); {
		case state == "FAILED" || state == "INCOMPLETE":
			all = append(all, found(Problem, "switch it on, connect it to the network of "+l.Name+", and give it the address "+hop.String()+" (tcpdump -ni "+l.Name+" arp or icmp6 shows the requests)",
				"%s does not answer %s on %s (%s): its packets are dropped as no_neighbour", what, asks, l.Name, state).of(t.address))
		case state == "" && b.Stats != nil:
			all = append(all, found(Warning, "ping it once, and look for firewalls that drop "+asks,
				"the kernel has no MAC address of %s on %s yet", what, l.Name))
		}
	}
	return all
}
