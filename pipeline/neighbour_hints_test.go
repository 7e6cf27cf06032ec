package pipeline_test

import (
	"testing"

	"sluice/pipeline/packet/packettest"
)

// TestReplyUsesNeighbourHint: a client on a link of a port, with a MAC address that the kernel
// doesn't know yet, is answered at the MAC address, port and tag that its first packet came from.
func TestReplyUsesNeighbourHint(t *testing.T) {
	mac := [6]byte{2, 0, 0, 0, 0xcc, 99}
	for _, vlan := range []uint16{0, 7} {
		tagged := func(p packettest.Packet) packettest.Packet {
			if vlan != 0 {
				return p.VLAN(vlan)
			}
			return p
		}
		w := newWorld(t)
		w.net.vlan = vlan
		w.configure(svc{backends: []backend{{host: 11, port: 8080}}})
		const client, host = "10.0.0.99:4000", "10.0.0.11:8080"
		w.ends(w.out(tagged(packettest.TCP(client, web4).Flags(syn).MACs(mac, backMAC))), "forward")
		w.expect(w.out(tagged(packettest.TCP(host, client).Flags(syn|ack))), "forward", back,
			tagged(packettest.TCP(web4, client).Flags(syn|ack).TTL(63).MACs(backMAC, mac)))
	}
}
