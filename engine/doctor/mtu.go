package doctor

import (
	"fmt"

	"sluice/pipeline/service"
)

// checkMTU compares the MTUs of the ports with the size of packets that leave by them. A packet in
// a tunnel is 20 bytes longer, 40 over IPv6. If the path to the backend is too narrow, clients are
// told to send smaller packets, and some networks drop that message.
func checkMTU(b *Box) (all []Finding) {
	front := 0
	for _, l := range b.ports() {
		front = max(front, l.MTU)
	}
	for _, t := range b.targets() {
		r, err := b.Route(t.address)
		l := b.linkByIndex(r.Ifindex)
		if err != nil || l == nil || b.portByIndex(l.Index) == nil {
			continue
		}
		mtu, header, in := l.MTU, 0, ""
		if r.MTU > 0 {
			mtu = min(mtu, r.MTU)
		}
		if t.mode == service.TUN {
			header, in = map[bool]int{true: 20, false: 40}[t.address.Is4()], "in the tunnel "
		}
		// With one MTU everywhere the clients' own, most often 1500, is what arrives. Without a
		// tunnel the backend's MSS keeps TCP from more.
		arrives := min(front, 1500)
		if front > 1500 && l.MTU < front && header > 0 {
			arrives = front
		}
		if mtu-header < arrives {
			all = append(all, found(Warning, here("there and on all switches and backends; or a smaller MTU, or advmss of the route, at the clients",
				fmt.Sprintf("ip link set %s mtu %d", l.Name, arrives+header)),
				"packets of %d bytes need %d %sto backend %s and the path by %s has %d: clients are asked to send at most %d",
				arrives, arrives+header, in, t.who(), l.Name, mtu, mtu-header))
		}
	}
	return all
}
