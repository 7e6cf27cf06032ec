package rewrite_test

import (
	"testing"

	"sluice/pipeline/packet"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/rewrite"
)

// batch is how many frames are rewritten in one go, as a worker does.
const batch = 4

// BenchmarkForward times what a mode does to a parsed frame, the TTL and the link included. The
// frame is rewritten again and again, which costs the same each time; m is put back because headers
// grow.
func BenchmarkForward(b *testing.B) {
	tcp4, tcp6 := packettest.TCP(client4, vip4), packettest.TCP(client6, vip6)
	dst4, dst6, our4, our6 := addr(backend4), addr(backend6), addr(local4), addr(local6)
	for _, bench := range []struct {
		name string
		in   packettest.Packet
		do   func(mem []byte, m *packet.Meta)
	}{
		{"nat4", tcp4, func(mem []byte, m *packet.Meta) { rewrite.NATIn(mem, m, dst4, 8080) }},
		{"nat4 udp", packettest.UDP(client4, vip4), func(mem []byte, m *packet.Meta) { rewrite.NATIn(mem, m, dst4, 8080) }},
		{"nat6", tcp6, func(mem []byte, m *packet.Meta) { rewrite.NATIn(mem, m, dst6, 8080) }},
		{"fullnat4", tcp4, func(mem []byte, m *packet.Meta) { rewrite.NATBoth(mem, m, our4, 20001, dst4, 8080) }},
		{"fullnat6", tcp6, func(mem []byte, m *packet.Meta) { rewrite.NATBoth(mem, m, our6, 20001, dst6, 8080) }},
		{"tun 4in4", tcp4, func(mem []byte, m *packet.Meta) { rewrite.DecTTL(mem, m); rewrite.Encap(mem, m, our4, dst4, 7) }},
		{"tun 6in6", tcp6, func(mem []byte, m *packet.Meta) { rewrite.DecTTL(mem, m); rewrite.Encap(mem, m, our6, dst6, 7) }},
		{"dr4", tcp4, rewrite.DecTTL},
		{"dr6", tcp6, rewrite.DecTTL},
	} {
		var chunks [batch]packettest.Chunk
		var parsed, metas [batch]packet.Meta
		for i := range chunks {
			chunks[i] = bench.in.Chunk()
			packet.Parse(chunks[i].Mem, chunks[i].Start, chunks[i].End, &parsed[i])
		}
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				metas = parsed
				for i := range chunks {
					mem, m := chunks[i].Mem, &metas[i]
					bench.do(mem, m)
					rewrite.SetLink(mem, m, &link)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/frame")
		})
	}
}
