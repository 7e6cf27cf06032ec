package packet_test

import (
	"bytes"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/packet/packettest"
)

// compare holds Parse against its slow twin and, where the frame passes, against gopacket.
func compare(t *testing.T, frame []byte) {
	t.Helper()
	c := packettest.Place(frame)
	before := bytes.Clone(c.Mem)
	var m packet.Meta
	reason := packet.Parse(c.Mem, c.Start, c.End, &m)
	if !bytes.Equal(before, c.Mem) {
		t.Fatalf("Parse changed the frame\n%s", packettest.Decode(frame))
	}
	want, wantReason := slowParse(c.Frame(), c.Start)
	if reason != wantReason || reason == counter.None && m != want {
		t.Fatalf("Parse:     %v %+v\nslow twin: %v %+v\n%s", reason, m, wantReason, want, packettest.Decode(frame))
	}
	compareFastParse(t, c, m, reason)
	if reason == counter.None && !m.ICMPError {
		compareGopacket(t, frame, &m)
	}
}

// compareFastParse holds a fast parse against Parse: it may know nothing, but what it says is so,
// and of an untagged packet without options it knows.
func compareFastParse(t *testing.T, c packettest.Chunk, m packet.Meta, reason counter.Reason) {
	t.Helper()
	h := packet.HeadersAt(c.Mem, c.Start)
	if h == nil {
		return
	}
	available := c.End - c.Start - packet.EthernetLen
	var kind packet.FastKind
	var got packet.Meta
	ok := false
	if h.MaybeIPv4() {
		if kind = h.FastParse4(available); kind != packet.NotFast {
			ok = h.Parse4(c.Start, &got)
		}
	} else if h.MaybeIPv6() {
		if kind = h.FastParse6(available); kind != packet.NotFast {
			ok = h.Parse6(c.Start, &got)
		}
	}
	plain := reason == counter.None && m.VLAN == 0 && !m.ICMPError && m.L3 == uint16(c.Start+14) &&
		(m.Family == 4 || m.L4 == m.L3+packet.IPv6Len)
	switch {
	case kind == packet.NotFast && plain:
		t.Fatalf("a fast parse refuses %+v", m)
	case kind == packet.NotFast:
	case ok && (reason != counter.None || got != m) || !ok && reason != counter.Martian:
		t.Fatalf("Parse:  %v %+v\nfast:  %v %+v", reason, m, ok, got)
	case ok && (kind.Proto() != m.Proto ||
		(kind == packet.Segment) != (m.TCPFlags&(packet.ACK|packet.SYN|packet.FIN|packet.RST) == packet.ACK)):
		t.Fatalf("fast parse gives %d of %+v", kind, m)
	}
}

// compareGopacket compares addresses and ports with what gopacket reads, as far as it does: it
// refuses TCP options and extension headers that it doesn't know, and panics over some.
func compareGopacket(t *testing.T, frame []byte, m *packet.Meta) {
	t.Helper()
	defer func() { _ = recover() }()
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.DecodeOptions{Lazy: false, NoCopy: true})
	network, transport := p.NetworkLayer(), p.TransportLayer()
	if network == nil || transport == nil {
		return
	}
	src, dst := network.NetworkFlow().Endpoints()
	sport, dport := transport.TransportFlow().Endpoints()
	ours := func(a packet.Addr) []byte { return a.Netip().AsSlice() }
	port := func(v uint16) []byte { return []byte{byte(v >> 8), byte(v)} }
	if !bytes.Equal(src.Raw(), ours(m.Src)) || !bytes.Equal(dst.Raw(), ours(m.Dst)) ||
		!bytes.Equal(sport.Raw(), port(m.SrcPort)) || !bytes.Equal(dport.Raw(), port(m.DstPort)) {
		t.Errorf("Parse:    %v %d %v %d\ngopacket: %v %v %v %v", m.Src, m.SrcPort, m.Dst, m.DstPort, src, sport, dst, dport)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range packettest.Samples {
		f.Add(s.Packet.Frame(), true)
	}
	for _, drops := range [][]dropCase{ethernetDrops(), ipv4Drops(), ipv6Drops(), transportDrops()[:12], icmpDrops()[:20]} {
		for _, d := range drops {
			f.Add(d.frame, true)
		}
	}
	f.Fuzz(func(t *testing.T, frame []byte, fix bool) {
		if len(frame) > packettest.ChunkSize-packettest.Headroom {
			return
		}
		if fix {
			fixIPv4(frame)
		}
		compare(t, frame)
	})
}

// fixIPv4 makes the IPv4 header checksum right, which mutations hardly ever do, so that they get
// behind it.
func fixIPv4(frame []byte) {
	l3 := 14
	if len(frame) > 14 && (frame[12] == 0x81 || frame[12] == 0x88) {
		l3 = 18
	}
	if len(frame) >= l3+20 && frame[l3]>>4 == 4 && frame[l3]&15 >= 5 {
		packettest.FixIPv4(frame[l3:])
	}
}
