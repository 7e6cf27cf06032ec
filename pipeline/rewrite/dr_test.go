package rewrite_test

import (
	"testing"

	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/rewrite"
)

// TestDR: only the link header and the TTL change, in every frame that Parse accepts.
func TestDR(t *testing.T) {
	for _, s := range packettest.Samples {
		if s.Name == "tcp4 urgent tos" { // TTL 1
			continue
		}
		runAll(t, []golden{
			{s.Name, s.Packet, to(rewrite.DecTTL), sent(s.Packet.TTL(63))},
			{s.Name + ", tagged", s.Packet, toLink(&tagged, rewrite.DecTTL), sent(s.Packet.TTL(63)).VLAN(300)},
			{s.Name + ", link only", s.Packet, to(nothing), sent(s.Packet)},
			{s.Name + ", back", s.Packet, back(nothing), s.Packet.MACs(packettest.OurMAC, packettest.NeighbourMAC)},
		})
	}
}
