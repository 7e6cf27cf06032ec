package packet_test

import (
	"testing"

	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/packet/packettest"
)

// batch is how many frames are parsed in one go, as a worker does.
const batch = 4

func BenchmarkParse(b *testing.B) {
	for _, bench := range []struct {
		name string
		in   packettest.Packet
	}{
		{"tcp4", packettest.TCP("192.0.2.7:40000", "198.51.100.10:80").Payload(nil).Padded(make([]byte, 6)...)},
		{"udp4", packettest.UDP("192.0.2.7:40000", "198.51.100.10:80").Payload(make([]byte, 18))},
		{"tcp4 tagged", packettest.TCP("192.0.2.7:40000", "198.51.100.10:80").Payload(nil).VLAN(7)},
		{"tcp6", packettest.TCP("[2001:db8::7]:40000", "[2001:db8:1::10]:80").Payload(nil)},
		{"udp6", packettest.UDP("[2001:db8::7]:40000", "[2001:db8:1::10]:80")},
	} {
		var chunks [batch]packettest.Chunk
		for i := range chunks {
			chunks[i] = bench.in.Chunk()
		}
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			var metas [batch]packet.Meta
			for b.Loop() {
				for i := range chunks {
					c := &chunks[i]
					if r := packet.Parse(c.Mem, c.Start, c.End, &metas[i]); r != counter.None {
						b.Fatal(r)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/frame")
		})
	}
}
