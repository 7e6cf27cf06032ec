package rewrite_test

import (
	"slices"
	"testing"

	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/rewrite"
)

// The ends of the flows in golden packets, and two backends with their port.
const (
	client4, vip4, backend4, local4 = packettest.Client4, packettest.VIP4, "10.0.0.11:8080", "10.0.0.2:20001"
	client6, vip6, backend6, local6 = packettest.Client6, packettest.VIP6, "[fd00::11]:8080", "[fd00::2]:20001"
)

var (
	nextMAC = [6]byte{0x02, 0, 0, 0, 0, 0x11}
	egress  = [6]byte{0x02, 0, 0, 0, 0, 0x10}
	link    = rewrite.Link{DMAC: nextMAC, SMAC: egress}
	tagged  = rewrite.Link{DMAC: nextMAC, SMAC: egress, VLAN: 300}
)

// golden is a frame, what is done to it, and the frame that must come out.
type golden struct {
	name string
	in   packettest.Packet
	do   func(mem []byte, m *packet.Meta) (start int)
	want packettest.Packet
}

// run parses, rewrites and compares, and looks that nothing outside the frame was written except in
// front of it.
func (g golden) run(t *testing.T) {
	t.Helper()
	c := g.in.Chunk()
	var m packet.Meta
	if reason := packet.Parse(c.Mem, c.Start, c.End, &m); reason != counter.None {
		t.Fatalf("input doesn't parse: %v\n%s", reason, packettest.Decode(c.Frame()))
	}
	behind := slices.Clone(c.Mem[c.End:])
	c.Start = g.do(c.Mem, &m)
	if diff := packettest.Diff(g.want.Frame(), c.Mem[c.Start:m.End]); diff != "" {
		t.Error(diff)
	}
	if !slices.Equal(behind, c.Mem[c.End:]) {
		t.Error("bytes behind the frame were written")
	}
	if int(m.L2) != c.Start {
		t.Errorf("m.L2 is %d, the frame starts at %d", m.L2, c.Start)
	}
}

func runAll(t *testing.T, all []golden) {
	for _, g := range all {
		t.Run(g.name, g.run)
	}
}

// to wraps a step that is followed by SetLink with an untagged link.
func to(step func(mem []byte, m *packet.Meta)) func([]byte, *packet.Meta) int {
	return toLink(&link, step)
}

func toLink(l *rewrite.Link, step func(mem []byte, m *packet.Meta)) func([]byte, *packet.Meta) int {
	return func(mem []byte, m *packet.Meta) int {
		step(mem, m)
		return rewrite.SetLink(mem, m, l)
	}
}

// back wraps an answer, which is followed by SwapLink.
func back(step func(mem []byte, m *packet.Meta)) func([]byte, *packet.Meta) int {
	return func(mem []byte, m *packet.Meta) int {
		step(mem, m)
		return rewrite.SwapLink(mem, m)
	}
}

func addr(s string) packet.Addr { return packet.AddrFrom(packettest.Addr(s)) }
func port(s string) uint16      { return packettest.Port(s) }

// Steps that forward a packet.
func nothing([]byte, *packet.Meta) {}

func natIn(dst string) func([]byte, *packet.Meta) {
	a, p := addr(dst), port(dst)
	return func(mem []byte, m *packet.Meta) {
		rewrite.NATIn(mem, m, a, p)
	}
}

func natOut(src string) func([]byte, *packet.Meta) {
	a, p := addr(src), port(src)
	return func(mem []byte, m *packet.Meta) {
		rewrite.NATOut(mem, m, a, p)
	}
}

func natBoth(src, dst string) func([]byte, *packet.Meta) {
	a, p, b, q := addr(src), port(src), addr(dst), port(dst)
	return func(mem []byte, m *packet.Meta) {
		rewrite.NATBoth(mem, m, a, p, b, q)
	}
}

func encap(src, dst string, id uint16) func([]byte, *packet.Meta) {
	a, b := addr(src), addr(dst)
	return func(mem []byte, m *packet.Meta) {
		rewrite.DecTTL(mem, m)
		rewrite.Encap(mem, m, a, b, id)
	}
}

// sent is p as it leaves by link.
func sent(p packettest.Packet) packettest.Packet { return p.MACs(egress, nextMAC).VLAN() }
