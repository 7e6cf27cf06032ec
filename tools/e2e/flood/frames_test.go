package flood

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// TestFrames: every frame is a valid packet, and nearly all come from different addresses.
func TestFrames(t *testing.T) {
	for _, udp := range []bool{false, true} {
		to := netip.MustParseAddrPort("198.51.100.10:80")
		s := newFrames(net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}, Traffic{Target: to, UDP: udp}, 1)
		sources := make(map[string]bool)
		const frames = 2000
		for range frames {
			f := make([]byte, s.MaxBytes())
			if n := s.Next(f, 0); n != len(f) {
				t.Fatalf("%d bytes", n)
			}
			p := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default)
			ip, _ := p.NetworkLayer().(*layers.IPv4)
			if ip == nil || ip.TOS != Mark || ip.DstIP.String() != to.Addr().String() || ip.SrcIP[0] < 11 || ip.SrcIP[0] > 110 {
				t.Fatalf("not a packet of a flood: %v", p)
			}
			sources[ip.SrcIP.String()] = true
			switch l := p.TransportLayer().(type) {
			case *layers.TCP:
				if !l.SYN || l.ACK || l.DstPort != 80 || udp {
					t.Fatalf("not a SYN: %v", p)
				}
				_ = l.SetNetworkLayerForChecksum(ip)
			case *layers.UDP:
				if l.DstPort != 80 || !udp {
					t.Fatalf("another datagram: %v", p)
				}
				_ = l.SetNetworkLayerForChecksum(ip)
			default:
				t.Fatalf("neither TCP nor UDP: %v", p)
			}
			again := gopacket.NewSerializeBuffer()
			if err := gopacket.SerializePacket(again, gopacket.SerializeOptions{ComputeChecksums: true}, p); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(again.Bytes()[:ip.Length+14], f[:ip.Length+14]) {
				t.Fatalf("a checksum is wrong:\n% x\n% x", f, again.Bytes())
			}
		}
		if len(sources) < frames-10 {
			t.Errorf("%d packets have %d sources", frames, len(sources))
		}
	}
}
