package doctor

import (
	"fmt"

	"sluice/pipeline/service"
)

// checkMTU compares MTUs with the size of tunnel packets. A packet in a tunnel is 20 bytes longer,
// 40 over IPv6. If the path to the backend is too narrow for them, clients are told to send smaller
// packets, and some networks drop that message.
func checkMTU(b *Box) (all []Finding) {
	front := 0
	for _, l := range b.ports() {
		front = max(front, l.MTU)
	}
	for _, t := range b.targets() {
		if t.mode != service.TUN {
			continue
		}
		r, err := b.Route(t.address)
		l := b.linkByIndex(r.Ifindex)
		if err != nil || l == nil {
			continue
		}
		mtu, header := l.MTU, 20
		if r.MTU > 0 {
			mtu = min(mtu, r.MTU)
		}
		if t.address.Is6() {
			header = 40
		}
		// With one MTU everywhere the clients' own, most often 1500, is what arrives.
		arrives := min(front, 1500)
		if front > 1500 && l.MTU < front {
			arrives = front
		}
		if mtu-header < arrives {
			all = append(all, found(Warning, fmt.Sprintf("ip link set %s mtu %d, there and on all switches and backends, or a smaller MTU (advmss of the route) at the clients", l.Name, arrives+header),
				"packets of %d bytes need %d in the tunnel to backend %s and the path by %s has %d: clients are asked to send at most %d",
				arrives, arrives+header, t.who(), l.Name, mtu, mtu-header))
		}
	}
	return all
}
