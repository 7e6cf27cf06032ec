package doctor

import (
	"fmt"
	"net/netip"
)

// checkNeighbours reports next hops without a MAC address: nothing can be sent to them. A running
// daemon makes the kernel resolve them.
func checkNeighbours(b *Box) []Finding {
	var silent causes
	var unknown []Finding
	seen := map[netip.Addr]bool{}
	for _, t := range b.targets() {
		r, err := b.Route(t.address)
		l := b.linkByIndex(r.Ifindex)
		if err != nil || r.Local || l == nil || b.portByIndex(r.Ifindex) == nil || b.told[t.address] {
			continue // checkRoutes reports it
		}
		hop, what := t.address, "backend %s"
		if r.Gateway.IsValid() {
			hop, what = r.Gateway, "gateway "+r.Gateway.String()+" to backend %s"
		}
		asks := "ARP"
		if hop.Is6() {
			asks = "neighbour discovery"
		}
		switch state := b.Neighbour(r.Ifindex, hop); {
		case state == "FAILED" || state == "INCOMPLETE":
			silent.add(hop.String(), t, fmt.Sprintf("switch it on, connect it to the network of %s, and give it the address %s (tcpdump -ni %s arp or icmp6 shows the requests)", l.Name, hop, l.Name),
				fmt.Sprintf("%s does not answer %s on %s (%s): its packets are dropped as no_neighbour", what, asks, l.Name, state))
		case state == "" && b.Stats != nil && !seen[hop]:
			unknown = append(unknown, found(Warning, "ping it once, and look for firewalls that drop "+asks,
				"the kernel has no MAC address of %s on %s yet", fmt.Sprintf(what, t.who()), l.Name))
		}
		seen[hop] = true
	}
	return append(silent.problems(), unknown...)
}
