package rewrite_test

import (
	"testing"

	"sluice/pipeline/packet"
	"sluice/pipeline/packet/packettest"
)

func TestEncap(t *testing.T) {
	const our4, real4, our6, real6 = "10.0.0.2", "10.0.0.11", "fd00::2", "fd00::11"
	tcp4, tcp6 := packettest.TCP(client4, vip4).ID(5), packettest.TCP(client6, vip6)
	outer := func(proto uint8, src, dst string, inner packettest.Packet) packettest.Packet {
		return sent(packettest.Raw(proto, src, dst, inner.IP()).TTL(63))
	}
	busy4, busy6 := tcp4.TOS(0xbb).TTL(64), tcp6.TOS(0xbb).FlowLabel(0x12345).TTL(64)
	runAll(t, []golden{
		{"4in4", tcp4, to(encap(our4, real4, 0xabcd)), outer(4, our4, real4, tcp4.TTL(63)).ID(0xabcd)},
		{"4in4 DF", tcp4.DF(), to(encap(our4, real4, 7)), outer(4, our4, real4, tcp4.DF().TTL(63)).ID(7).DF()},
		{"4in4 class and ECN", busy4, to(encap(our4, real4, 7)), outer(4, our4, real4, busy4.TTL(63)).ID(7).TOS(0xbb)},
		{"4in4, padding stays behind", tcp4.Padded(1, 2, 3), to(encap(our4, real4, 7)), outer(4, our4, real4, tcp4.TTL(63)).ID(7)},
		{"4in4, tag goes on", tcp4, toLink(&tagged, encap(our4, real4, 7)), outer(4, our4, real4, tcp4.TTL(63)).ID(7).VLAN(300)},
		{"4in4, wrong stays wrong", tcp4.WrongBy(9), to(encap(our4, real4, 7)), outer(4, our4, real4, tcp4.WrongBy(9).TTL(63)).ID(7)},
		{"6in4", tcp6, to(encap(our4, real4, 7)), outer(41, our4, real4, tcp6.TTL(63)).ID(7).DF()},
		{"6in4 class and ECN", busy6, to(encap(our4, real4, 7)), outer(41, our4, real4, busy6.TTL(63)).ID(7).DF().TOS(0xbb)},
		{"4in6", tcp4, to(encap(our6, real6, 7)), outer(4, our6, real6, tcp4.TTL(63))},
		{"4in6 class and ECN", busy4, to(encap(our6, real6, 7)), outer(4, our6, real6, busy4.TTL(63)).TOS(0xbb)},
		{"6in6", tcp6, to(encap(our6, real6, 7)), outer(41, our6, real6, tcp6.TTL(63))},
		{"6in6 class, label", busy6, to(encap(our6, real6, 7)), outer(41, our6, real6, busy6.TTL(63)).TOS(0xbb)},
		{"6in6 of a tagged frame", tcp6.VLAN(7), to(encap(our6, real6, 7)), outer(41, our6, real6, tcp6.TTL(63))},
	})
}

// TestEncapMeta: L3 and Family are those of the outer header, all else those of the inner packet.
func TestEncapMeta(t *testing.T) {
	c := packettest.TCP(client4, vip4).Chunk()
	var m packet.Meta
	packet.Parse(c.Mem, c.Start, c.End, &m)
	want := m
	want.L3, want.Family, want.TTL = m.L3-packet.IPv6Len, 6, 63
	encap("fd00::2", "fd00::11", 1)(c.Mem, &m)
	if m != want {
		t.Errorf("got  %+v\nwant %+v", m, want)
	}
}

// TestOuterChecksum makes outer headers with every identification: a checksum that is folded once
// too little is wrong for one in thousands.
func TestOuterChecksum(t *testing.T) {
	in := packettest.UDP(client4, vip4).Frame()
	for id := range 0x10000 {
		c := packettest.Chunk{Mem: make([]byte, 512), Start: packettest.Headroom}
		c.End = c.Start + copy(c.Mem[c.Start:], in)
		var m packet.Meta
		packet.Parse(c.Mem, c.Start, c.End, &m)
		c.Start = to(encap("255.254.255.255", "254.255.255.255", uint16(id)))(c.Mem, &m)
		if err := packettest.CheckSums(c.Mem[c.Start:m.End]); err != nil {
			t.Fatalf("identification %d: %v", id, err)
		}
	}
}
