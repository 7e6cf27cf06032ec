package packettest_test

import (
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"sluice/pipeline/packet/packettest"
)

// TestSamplesAreWellFormed has gopacket read what was built: a mistake in the builders would make
// every other test worthless.
func TestSamplesAreWellFormed(t *testing.T) {
	for _, s := range packettest.Samples {
		t.Run(s.Name, func(t *testing.T) {
			frame := s.Packet.Frame()
			p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
			if e := p.ErrorLayer(); e != nil && !strings.Contains(s.Name, "bad") {
				t.Errorf("gopacket: %v\n%s", e.Error(), packettest.Decode(frame))
			}
			wrong := packettest.CheckSums(frame) != nil
			if wrong != strings.Contains(s.Name, "wrong") {
				t.Errorf("checksums: %v\n%s", packettest.CheckSums(frame), packettest.Decode(frame))
			}
		})
	}
}

func TestCheckSumsFindsEveryFlippedBit(t *testing.T) {
	for _, p := range []packettest.Packet{
		packettest.TCP(packettest.Client4, packettest.VIP4),
		packettest.UDP(packettest.Client6, packettest.VIP6),
		packettest.ICMP(packettest.Router4, "198.51.100.10", 3, 3, 0, packettest.UDP(packettest.VIP4, packettest.Client4).IP()),
	} {
		frame := p.Frame()
		l4 := len(frame) - len(p.IP()) + 20
		if p.IP()[0]>>4 == 6 {
			l4 += 20
		}
		for bit := l4 * 8; bit < len(frame)*8; bit++ {
			frame[bit/8] ^= 1 << (bit % 8)
			udpLength := p.IP()[6] == 17 && (bit/8 == l4+4 || bit/8 == l4+5)
			if packettest.CheckSums(frame) == nil && !udpLength {
				t.Fatalf("bit %d of byte %d flipped, and all checksums are right\n%s", bit%8, bit/8, packettest.Decode(frame))
			}
			frame[bit/8] ^= 1 << (bit % 8)
		}
	}
}

func TestDiff(t *testing.T) {
	p := packettest.TCP(packettest.Client4, packettest.VIP4)
	if diff := packettest.Diff(p.Frame(), p.Frame()); diff != "" {
		t.Errorf("equal frames differ: %s", diff)
	}
	diff := packettest.Diff(p.Frame(), p.TTL(63).Frame())
	for _, want := range []string{"byte  22: want 40, got 3f", "--- want", "--- got", "DstIP=198.51.100.10"} {
		if !strings.Contains(diff, want) {
			t.Errorf("diff doesn't say %q:\n%s", want, diff)
		}
	}
	if packettest.Diff(p.Frame(), p.Frame()[:20]) == "" || packettest.Diff(nil, p.Frame()) == "" {
		t.Error("a short frame equals a whole one")
	}
}
