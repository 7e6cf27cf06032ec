package rewrite_test

import (
	"slices"
	"testing"

	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/packet/packettest"
	"sluice/pipeline/rewrite"
)

// steps are all things that can be done to a frame that parses. Each returns where the frame starts
// then.
var steps = []struct {
	name string
	fits func(m *packet.Meta) bool
	do4  func([]byte, *packet.Meta) int
	do6  func([]byte, *packet.Meta) int
}{
	{"nat in", isFlow, to(natIn(backend4)), to(natIn(backend6))},
	{"nat out", isFlow, toLink(&tagged, natOut(vip4)), toLink(&tagged, natOut(vip6))},
	{"nat both", isFlow, to(natBoth(local4, backend4)), to(natBoth(local6, backend6))},
	{"icmp in", isError, to(icmpIn(backend4)), to(icmpIn(backend6))},
	{"icmp out", isError, toLink(&tagged, icmpOut(vip4)), toLink(&tagged, icmpOut(vip6))},
	{"icmp both", isError, to(icmpBoth(backend4, local4)), to(icmpBoth(backend6, local6))},
	{"tun in IPv4", anything, to(encap("10.0.0.2", "10.0.0.11", 7)), toLink(&tagged, encap("10.0.0.2", "10.0.0.11", 7))},
	{"tun in IPv6", anything, to(encap("fd00::2", "fd00::11", 7)), toLink(&tagged, encap("fd00::2", "fd00::11", 7))},
	{"dr", anything, to(rewrite.DecTTL), toLink(&tagged, rewrite.DecTTL)},
	{"reset", isTCP, back(rewrite.TCPReset), back(rewrite.TCPReset)},
	{"unreachable", isFlow, back(rewrite.Unreachable), back(rewrite.Unreachable)},
	{"expired", isFlow, back(rewrite.TimeExceeded), back(rewrite.TimeExceeded)},
	{"too big", isFlow, back(tooBig), back(tooBig)},
}

func isFlow(m *packet.Meta) bool  { return !m.ICMPError }
func isError(m *packet.Meta) bool { return m.ICMPError }
func isTCP(m *packet.Meta) bool   { return !m.ICMPError && m.Proto == packet.TCP }
func anything(*packet.Meta) bool  { return true }

func tooBig(mem []byte, m *packet.Meta) { rewrite.TooBig(mem, m, 1400) }

// FuzzRewrite does everything to every frame that parses: nothing panics, nothing behind the frame
// is written, and if all checksums were right before, they are so afterwards.
func FuzzRewrite(f *testing.F) {
	for _, s := range packettest.Samples {
		f.Add(s.Packet.Frame())
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) > packettest.ChunkSize-packettest.Headroom {
			return
		}
		fixIPv4(frame)
		right := packettest.CheckSums(frame) == nil
		for _, step := range steps {
			c := packettest.Place(frame)
			var m packet.Meta
			if packet.Parse(c.Mem, c.Start, c.End, &m) != counter.None || m.TTL < 2 || !step.fits(&m) {
				continue
			}
			behind := slices.Clone(c.Mem[c.End:])
			do := step.do4
			if m.Family == 6 {
				do = step.do6
			}
			out := c.Mem[do(c.Mem, &m):m.End]
			if !slices.Equal(behind, c.Mem[c.End:]) {
				t.Errorf("%s wrote behind the frame\n%s", step.name, packettest.Decode(frame))
			}
			if err := packettest.CheckSums(out); right && err != nil {
				t.Errorf("%s: %v\nin\n%sout\n%s", step.name, err, packettest.Decode(frame), packettest.Decode(out))
			}
		}
	})
}

// fixIPv4 makes the IPv4 header checksum right, which mutations hardly ever do, so that they get
// behind it.
func fixIPv4(frame []byte) {
	if len(frame) >= 34 && frame[14]>>4 == 4 && frame[14]&15 >= 5 {
		packettest.FixIPv4(frame[14:])
	}
}

// TestRewritingDoesNotAllocate: on the packet path nothing does.
func TestRewritingDoesNotAllocate(t *testing.T) {
	for _, s := range packettest.Samples {
		for _, step := range steps {
			var m packet.Meta
			original := s.Packet.Chunk()
			c := s.Packet.Chunk()
			do := step.do4
			if packet.Parse(c.Mem, c.Start, c.End, &m); m.Family == 6 {
				do = step.do6
			}
			if !step.fits(&m) {
				continue
			}
			if n := testing.AllocsPerRun(10, func() {
				copy(c.Mem, original.Mem)
				packet.Parse(c.Mem, c.Start, c.End, &m)
				do(c.Mem, &m)
			}); n > 0 {
				t.Errorf("%s of %s allocates %v times", step.name, s.Name, n)
			}
		}
	}
}
