package rewrite_test

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"testing"

	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/rewrite"
)

// prepared are the things that can be done to a frame by what is prepared, beside what else does
// the same. The first tells where the frame starts then.
var prepared = []struct {
	name  string
	quick func(c packettest.Chunk, m *packet.Meta, h *packet.Headers, end packet.Addr, port, id uint16, l *rewrite.Link) int
	slow  func(mem []byte, m *packet.Meta, end packet.Addr, port, id uint16)
}{
	{"nat in", func(c packettest.Chunk, m *packet.Meta, h *packet.Headers, end packet.Addr, port, _ uint16, l *rewrite.Link) int {
		e := rewrite.NewEnd(m.Dst, m.DstPort, end, port)
		if m.Family == 4 {
			e.In4(h, m.Proto == packet.TCP)
		} else {
			e.In6(h, m.Proto == packet.TCP)
		}
		l.Apply(h)
		return c.Start
	}, func(mem []byte, m *packet.Meta, end packet.Addr, port, _ uint16) { rewrite.NATIn(mem, m, end, port) }},
	{"nat out", func(c packettest.Chunk, m *packet.Meta, h *packet.Headers, end packet.Addr, port, _ uint16, l *rewrite.Link) int {
		e := rewrite.NewEnd(m.Src, m.SrcPort, end, port)
		if m.Family == 4 {
			e.Out4(h, m.Proto == packet.TCP)
		} else {
			e.Out6(h, m.Proto == packet.TCP)
		}
		l.Apply(h)
		return c.Start
	}, func(mem []byte, m *packet.Meta, end packet.Addr, port, _ uint16) { rewrite.NATOut(mem, m, end, port) }},
	{"fullnat", func(c packettest.Chunk, m *packet.Meta, h *packet.Headers, end packet.Addr, port, id uint16, l *rewrite.Link) int {
		e := rewrite.NewEnd(m.Dst, m.DstPort, end, port)
		if m.Family == 4 {
			e.Both4(h, local(m, id).V4(), id, m.Proto == packet.TCP)
		} else {
			e.Both6(h, local(m, id), id, m.Proto == packet.TCP)
		}
		l.Apply(h)
		return c.Start
	}, func(mem []byte, m *packet.Meta, end packet.Addr, port, id uint16) {
		rewrite.NATBoth(mem, m, local(m, id), id, end, port)
	}},
	{"fullnat back", func(c packettest.Chunk, m *packet.Meta, h *packet.Headers, end packet.Addr, port, id uint16, l *rewrite.Link) int {
		e := rewrite.NewEnd(m.Src, m.SrcPort, end, port)
		if m.Family == 4 {
			e.Back4(h, local(m, id).V4(), id, m.Proto == packet.TCP)
		} else {
			e.Back6(h, local(m, id), id, m.Proto == packet.TCP)
		}
		l.Apply(h)
		return c.Start
	}, func(mem []byte, m *packet.Meta, end packet.Addr, port, id uint16) {
		rewrite.NATBoth(mem, m, end, port, local(m, id), id)
	}},
	{"dr", func(c packettest.Chunk, m *packet.Meta, h *packet.Headers, _ packet.Addr, _, _ uint16, l *rewrite.Link) int {
		if m.Family == 4 {
			l.DR4(h)
		} else {
			l.DR6(h)
		}
		return c.Start
	}, func(mem []byte, m *packet.Meta, _ packet.Addr, _, _ uint16) { rewrite.DecTTL(mem, m) }},
	{"tun in the same family", func(c packettest.Chunk, m *packet.Meta, h *packet.Headers, end packet.Addr, _, id uint16, l *rewrite.Link) int {
		return wrap(c, m, h, rewrite.NewTunnel(m.Dst, end), id, l)
	}, func(mem []byte, m *packet.Meta, end packet.Addr, _, id uint16) {
		rewrite.DecTTL(mem, m)
		rewrite.Encap(mem, m, m.Dst, end, id)
	}},
	{"tun in the other family", func(c packettest.Chunk, m *packet.Meta, h *packet.Headers, _ packet.Addr, port, id uint16, l *rewrite.Link) int {
		src, dst := otherFamily(m, port)
		return wrap(c, m, h, rewrite.NewTunnel(src, dst), id, l)
	}, func(mem []byte, m *packet.Meta, _ packet.Addr, port, id uint16) {
		src, dst := otherFamily(m, port)
		rewrite.DecTTL(mem, m)
		rewrite.Encap(mem, m, src, dst, id)
	}},
}

func wrap(c packettest.Chunk, m *packet.Meta, h *packet.Headers, t rewrite.Tunnel, id uint16, l *rewrite.Link) int {
	id = bits.ReverseBytes16(id)
	if m.Family == 4 {
		return t.Wrap4(h, c.Start, m.End-m.L3, id, l)
	}
	return t.Wrap6(h, c.Start, m.End-m.L3, id, l)
}

// local gives an address of the packet's family, sometimes its source's own.
func local(m *packet.Meta, n uint16) packet.Addr {
	switch {
	case n%8 == 0:
		return m.Src
	case m.Family == 4:
		return packet.AddrFrom4(uint32(n)<<16 | uint32(^n))
	}
	return packet.Addr{Hi: 0xfd<<56 | uint64(n), Lo: uint64(n) * 0x1_0001_0000}
}

// otherFamily gives two addresses of the family that the packet isn't of.
func otherFamily(m *packet.Meta, n uint16) (src, dst packet.Addr) {
	if m.Family == 6 {
		return packet.AddrFrom4(0x0a000000 | uint32(n)), packet.AddrFrom4(uint32(n) * 0x10001)
	}
	return packet.Addr{Hi: 0xfd << 56, Lo: uint64(n)}, packet.Addr{Hi: 0xfd << 56, Lo: ^uint64(n)}
}

// place is packettest.Place in a smaller chunk, for there are many.
func place(frame []byte) packettest.Chunk {
	const room = 64
	mem := make([]byte, room+len(frame)+room)
	return packettest.Chunk{Mem: mem, Start: room, End: room + copy(mem[room:], frame)}
}

// checkPrepared does everything to a frame in both ways, if a fast parse says that it may be done.
func checkPrepared(t *testing.T, frame []byte, end packet.Addr, port, id uint16) {
	t.Helper()
	link := rewrite.Link{DMAC: [6]byte{2, 1, 1, 1, 1, 1}, SMAC: [6]byte{2, 2, 2, 2, 2, 2}}
	for _, p := range prepared {
		quick, slow := place(frame), place(frame)
		var m packet.Meta
		if packet.Parse(slow.Mem, slow.Start, slow.End, &m) != counter.None || m.ICMPError || m.TTL < 2 || m.VLAN != 0 || end.Is4() != (m.Family == 4) {
			return
		}
		if h := packet.HeadersAt(quick.Mem, quick.Start); !h.MaybeIPv4() && !h.MaybeIPv6() || m.L4-m.L3 != 20 && m.L4-m.L3 != 40 {
			return
		}
		was := m
		start := p.quick(quick, &was, packet.HeadersAt(quick.Mem, quick.Start), end, port, id, &link)
		p.slow(slow.Mem, &m, end, port, id)
		if want := rewrite.SetLink(slow.Mem, &m, &link); start != want || !bytes.Equal(quick.Mem, slow.Mem) {
			t.Fatalf("%s to %s port %d, id %d\n%sbecomes\n%sinstead of\n%s", p.name, end, port, id, packettest.Decode(frame),
				packettest.Decode(quick.Mem[start:m.End]), packettest.Decode(slow.Mem[want:m.End]))
		}
	}
}

// edges are numbers at which carries go round.
var edges = []uint16{0, 1, 0xff, 0x100, 0x7fff, 0x8000, 0xff00, 0xfffe, 0xffff}

// TestPrepared: a prepared rewrite has the result of the one that is not prepared, for random
// numbers, and for each checksum of UDP, where two are special, and of the IPv4 header.
func TestPrepared(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	number := func() uint16 {
		if r.IntN(2) == 0 {
			return edges[r.IntN(len(edges))]
		}
		return uint16(r.Uint32())
	}
	address := func(is4 bool) packet.Addr {
		if is4 {
			return packet.AddrFrom4(uint32(number())<<16 | uint32(number()))
		}
		four := func() uint64 {
			return uint64(number())<<48 | uint64(number())<<32 | uint64(number())<<16 | uint64(number())
		}
		return packet.Addr{Hi: four() | 1<<61, Lo: four()}
	}
	whole := make(map[uint8]bool) // families of which there was a UDP packet with every checksum
	for _, s := range packettest.Samples {
		frame := s.Packet.TTL(64).Frame()
		c := packettest.Place(frame)
		var m packet.Meta
		if packet.Parse(c.Mem, c.Start, c.End, &m) != counter.None || m.ICMPError || m.VLAN != 0 {
			continue
		}
		at := int(m.L4) - c.Start + 16
		if m.Proto == packet.UDP {
			at -= 10
		}
		for range 1000 {
			binary.BigEndian.PutUint16(frame[at:], number())
			frame[15] ^= byte(r.Uint32()) // type of service, and of IPv6 the flow label
			if m.Family == 4 {
				binary.BigEndian.PutUint16(frame[18:], number()) // identification
				frame[22] = uint8(2 + r.IntN(254))
			}
			fixIPv4(frame)
			checkPrepared(t, frame, address(m.Family == 4), number(), number())
		}
		if m.Proto != packet.UDP || whole[m.Family] {
			continue
		}
		whole[m.Family] = true
		end, port := address(m.Family == 4), number()
		for sum := range 1 << 16 {
			binary.BigEndian.PutUint16(frame[at:], uint16(sum))
			if m.Family == 4 {
				binary.BigEndian.PutUint16(frame[18:], uint16(sum))
				fixIPv4(frame)
			}
			checkPrepared(t, frame, end, port, uint16(sum))
		}
	}
}

// TestHeadroomForOuterHeader: a tunnel needs headroom of the length of its outer header. With less,
// Wrap panics before it has written in front of the chunk, where another frame is.
func TestHeadroomForOuterHeader(t *testing.T) {
	const ahead = 64 // of the chunk, in the same memory
	v6 := packet.Addr{Hi: 0xfd << 56, Lo: 1}
	for _, test := range []struct {
		tunnel rewrite.Tunnel
		need   int
	}{
		{rewrite.NewTunnel(packet.AddrFrom4(1<<24), packet.AddrFrom4(2<<24)), packet.IPv4Len},
		{rewrite.NewTunnel(v6, v6), packet.IPv6Len},
	} {
		for _, p := range []packettest.Packet{packettest.UDP("192.0.2.1:1", "192.0.2.2:2"), packettest.UDP("[fd00::1]:1", "[fd00::2]:2")} {
			for room := range packet.IPv6Len + 2 {
				memory := make([]byte, ahead+room+200)
				mem := memory[ahead:]
				length := copy(mem[room:], p.Frame()) - packet.EthernetLen
				start, stopped := -1, true
				func() {
					defer func() { _ = recover() }()
					h, wrap := packet.HeadersAt(mem, room), test.tunnel.Wrap4
					if h.MaybeIPv6() {
						wrap = test.tunnel.Wrap6
					}
					start, stopped = wrap(h, room, uint16(length), 0, &rewrite.Link{DMAC: [6]byte{2, 2, 2, 2, 2, 2}}), false
				}()
				if stopped != (room < test.need) || !stopped && start != room-test.need {
					t.Errorf("%d bytes of room for %d: stopped %t, the frame starts at %d", room, test.need, stopped, start)
				}
				if !bytes.Equal(memory[:ahead], make([]byte, ahead)) {
					t.Errorf("%d bytes of room for %d: written ahead of the chunk", room, test.need)
				}
			}
		}
	}
}
