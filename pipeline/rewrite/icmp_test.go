package rewrite_test

import (
	"net/netip"
	"strings"
	"testing"

	"sluice/pipeline/packet"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/rewrite"
)

// host gives the address of an end without its port.
func host(end string) string { return netip.MustParseAddrPort(end).Addr().String() }

// TestICMP embeds each kind of packet, whole and cut short, as the other side knows it. A whole one
// has right checksums, and they are right afterwards only if every checksum is updated.
func TestICMP(t *testing.T) {
	type family struct{ client, vip, backend, local, router string }
	families := []family{
		{client4, vip4, backend4, local4, packettest.Router4},
		{client6, vip6, backend6, local6, packettest.Router6},
	}
	for _, f := range families {
		typ := uint8(3)
		if f == families[1] {
			typ = 1
		}
		for name, p := range map[string]packettest.Packet{
			"tcp":                  packettest.TCP(f.vip, f.client),
			"udp":                  packettest.UDP(f.vip, f.client),
			"udp without checksum": packettest.UDP(f.vip, f.client).NoChecksum(),
			"wrong tcp":            packettest.TCP(f.vip, f.client).WrongBy(77),
			"first fragment":       packettest.UDP(f.vip, f.client).Fragment(0, true),
		} {
			whole := len(p.IP())
			least := whole - len("hello") // 8 bytes of the transport header, which for UDP are all
			if strings.Contains(name, "tcp") {
				least -= packet.TCPLen - 8
			}
			for n := least; n <= whole; n++ {
				if n == least+9 && least < whole-len("hello") {
					continue // half of TCP's checksum is no checksum: it stays as it is
				}
				about := func(from, to, src, dst string) packettest.Packet {
					return packettest.ICMP(from, to, typ, 1, 0, p.From(src).To(dst).IP()[:n])
				}
				r, vip, backend, local, client := f.router, host(f.vip), host(f.backend), host(f.local), host(f.client)
				runAll(t, []golden{
					{name + " in", about(r, vip, f.vip, f.client), to(icmpIn(f.backend)),
						sent(about(r, backend, f.backend, f.client))},
					{name + " out", about(backend, client, f.client, f.backend), to(icmpOut(f.vip)),
						sent(about(vip, client, f.client, f.vip))},
					{name + " out, from a router", about(r, client, f.client, f.backend), to(icmpOut(f.vip)),
						sent(about(vip, client, f.client, f.vip))},
					{name + " both", about(r, vip, f.vip, f.client), to(icmpBoth(f.backend, f.local)),
						sent(about(local, backend, f.backend, f.local))},
				})
			}
		}
	}
}

// TestICMPWrongStaysWrong: the checksum of the ICMP error, too, stays as wrong as it was.
func TestICMPWrongStaysWrong(t *testing.T) {
	about := func(to, src string) packettest.Packet {
		return packettest.ICMP(packettest.Router4, to, 3, 4, 1400, packettest.TCP(src, client4).IP()).WrongBy(0x4321)
	}
	golden{"", about(host(vip4), vip4), to(icmpIn(backend4)), sent(about(host(backend4), backend4))}.run(t)
}

func icmpIn(backend string) func([]byte, *packet.Meta) {
	a, p := addr(backend), port(backend)
	return func(mem []byte, m *packet.Meta) { rewrite.ICMPIn(mem, m, a, p) }
}

func icmpOut(vip string) func([]byte, *packet.Meta) {
	a, p := addr(vip), port(vip)
	return func(mem []byte, m *packet.Meta) { rewrite.ICMPOut(mem, m, a, p) }
}

func icmpBoth(src, dst string) func([]byte, *packet.Meta) {
	a, p, b, q := addr(src), port(src), addr(dst), port(dst)
	return func(mem []byte, m *packet.Meta) { rewrite.ICMPBoth(mem, m, a, p, b, q) }
}
