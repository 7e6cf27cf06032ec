package rewrite_test

import (
	"encoding/binary"
	"testing"

	"sluice/pipeline/packet"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/rewrite"
)

func TestNAT(t *testing.T) {
	tcp4, udp4 := packettest.TCP(client4, vip4), packettest.UDP(client4, vip4)
	tcp6, udp6 := packettest.TCP(client6, vip6), packettest.UDP(client6, vip6)
	extended := tcp6.Extension(0, make([]byte, 8)...).Extension(60, 0, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	runAll(t, []golden{
		{"in tcp4", tcp4, to(natIn(backend4)), sent(tcp4.To(backend4).TTL(63))},
		{"in tcp4, padding stays behind", tcp4.Padded(1, 2, 3), to(natIn(backend4)), sent(tcp4.To(backend4).TTL(63))},
		{"in tcp4, tag comes off", tcp4.VLAN(7), to(natIn(backend4)), sent(tcp4.To(backend4).TTL(63))},
		{"in udp4, tag goes on", udp4, toLink(&tagged, natIn(backend4)), sent(udp4.To(backend4).TTL(63)).VLAN(300)},
		{"in udp4 without checksum", udp4.NoChecksum(), to(natIn(backend4)), sent(udp4.NoChecksum().To(backend4).TTL(63))},
		{"in udp4, wrong by 0x1234", udp4.WrongBy(0x1234), to(natIn(backend4)), sent(udp4.WrongBy(0x1234).To(backend4).TTL(63))},
		{"in tcp4, wrong by 1", tcp4.WrongBy(1), to(natIn(backend4)), sent(tcp4.WrongBy(1).To(backend4).TTL(63))},
		{"in tcp6", tcp6, to(natIn(backend6)), sent(tcp6.To(backend6).TTL(63))},
		{"in tcp6, wrong by 0xfffe", tcp6.WrongBy(0xfffe), to(natIn(backend6)), sent(tcp6.WrongBy(0xfffe).To(backend6).TTL(63))},
		{"in tcp6, tag changes", tcp6.VLAN(7), toLink(&tagged, natIn(backend6)), sent(tcp6.To(backend6).TTL(63)).VLAN(300)},
		{"in tcp6 extensions", extended, to(natIn(backend6)), sent(extended.To(backend6).TTL(63))},
		{"in udp6", udp6, to(natIn(backend6)), sent(udp6.To(backend6).TTL(63))},
		{"in udp6 without checksum", udp6.NoChecksum(), to(natIn(backend6)), sent(udp6.NoChecksum().To(backend6).TTL(63))},
		{"out tcp4", tcp4.From(backend4).To(client4), to(natOut(vip4)), sent(tcp4.From(vip4).To(client4).TTL(63))},
		{"out udp4", udp4.From(backend4).To(client4), to(natOut(vip4)), sent(udp4.From(vip4).To(client4).TTL(63))},
		{"out tcp6", tcp6.From(backend6).To(client6), to(natOut(vip6)), sent(tcp6.From(vip6).To(client6).TTL(63))},
		{"out udp6", udp6.From(backend6).To(client6), to(natOut(vip6)), sent(udp6.From(vip6).To(client6).TTL(63))},
		{"both tcp4", tcp4, to(natBoth(local4, backend4)), sent(tcp4.From(local4).To(backend4).TTL(63))},
		{"both udp4", udp4, to(natBoth(local4, backend4)), sent(udp4.From(local4).To(backend4).TTL(63))},
		{"both tcp6", tcp6, to(natBoth(local6, backend6)), sent(tcp6.From(local6).To(backend6).TTL(63))},
		{"both udp6", udp6, to(natBoth(local6, backend6)), sent(udp6.From(local6).To(backend6).TTL(63))},
	})
}

// TestComputedZero finds datagrams of which the translated checksum comes out as 0. UDP sends
// 0xffff then, because 0 means that there is none (RFC 768); TCP sends 0.
func TestComputedZero(t *testing.T) {
	for _, dst := range []string{backend4, backend6} {
		for _, proto := range []int{packet.TCP, packet.UDP} {
			in, field := packettest.UDP(client4, vip4), 6
			if dst == backend6 {
				in = packettest.UDP(client6, vip6)
			}
			if proto == packet.TCP {
				in, field = packettest.TCP(client4, vip4), 16
				if dst == backend6 {
					in = packettest.TCP(client6, vip6)
				}
			}
			// With one more word w in the payload, the checksum falls by w: choose w so that
			// nothing is left.
			word := func(p packettest.Packet) uint16 {
				ip := p.IP()
				l4 := ip[20:]
				if ip[0]>>4 == 6 {
					l4 = ip[40:]
				}
				return binary.BigEndian.Uint16(l4[field:])
			}
			left := word(in.Payload([]byte{0, 0}).To(dst))
			in = in.Payload([]byte{byte(left >> 8), byte(left)})
			if got := word(in.To(dst)); got != 0 && got != 0xffff {
				t.Fatalf("test is wrong: checksum is %#04x", got)
			}
			golden{"zero", in, to(natIn(dst)), sent(in.To(dst).TTL(63))}.run(t)
		}
	}
}

// TestTTL takes every TTL above 1 down by one.
func TestTTL(t *testing.T) {
	for ttl := 2; ttl < 256; ttl++ {
		for _, p := range []packettest.Packet{packettest.TCP(client4, vip4), packettest.TCP(client6, vip6)} {
			golden{"ttl", p.TTL(uint8(ttl)), to(rewrite.DecTTL), sent(p.TTL(uint8(ttl - 1)))}.run(t)
		}
	}
}

// TestTTLUpdatesMeta because an outer header and answers are made from it.
func TestTTLUpdatesMeta(t *testing.T) {
	c := packettest.TCP(client4, vip4).TTL(9).Chunk()
	var m packet.Meta
	packet.Parse(c.Mem, c.Start, c.End, &m)
	if rewrite.DecTTL(c.Mem, &m); m.TTL != 8 {
		t.Errorf("Meta.TTL is %d, want 8", m.TTL)
	}
}
