package frame_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"sluice/tools/pktgen/flow"
	"sluice/tools/pktgen/frame"
)

func parse(t *testing.T, text string) flow.Range {
	t.Helper()
	r, err := flow.ParseRange(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// specOf returns frames of one family and protocol with two source and two destination addresses.
func specOf(t *testing.T, six, tcp bool) frame.Spec {
	t.Helper()
	s := frame.Spec{SourceMAC: frame.MAC{2, 0, 0, 0, 0, 1}, DestinationMAC: frame.MAC{2, 0, 0, 0, 0, 2}, TCP: tcp, Stream: 77,
		Source: parse(t, "10.1.255.255-10.2.0.0:1000-1009"), Destination: parse(t, "198.51.100.10-198.51.100.11:80")}
	if six {
		s.Source, s.Destination = parse(t, "[2001:db8::1:ffff-2001:db8::2:0]:1000-1009"), parse(t, "[2001:db8:1::10-2001:db8:1::11]:80")
	}
	return s
}

// reserialized decodes a frame and serializes it again, with lengths and checksums from gopacket.
func reserialized(t *testing.T, b []byte) []byte {
	t.Helper()
	p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
	if e := p.ErrorLayer(); e != nil {
		t.Fatalf("frame %x: %v", b, e.Error())
	}
	var all []gopacket.SerializableLayer
	for _, l := range p.Layers() {
		switch l := l.(type) {
		case *layers.TCP:
			_ = l.SetNetworkLayerForChecksum(p.NetworkLayer())
			all = append(all, l)
		case *layers.UDP:
			_ = l.SetNetworkLayerForChecksum(p.NetworkLayer())
			all = append(all, l)
		default:
			all = append(all, l.(gopacket.SerializableLayer))
		}
	}
	buffer := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

// TestFramesAreRight: each frame equals what gopacket serializes after decoding it, checksums and
// lengths included, and has the endpoints of its flow.
func TestFramesAreRight(t *testing.T) {
	for _, six := range []bool{false, true} {
		for _, tcp := range []bool{false, true} {
			for _, size := range []int{0, 80, 101, 512, 1514} {
				spec := specOf(t, six, tcp)
				spec.Sizes = []int{size}
				if size == 0 {
					spec.Sizes = []int{spec.Smallest()}
				}
				if spec.Check() != nil {
					continue // too small for these headers
				}
				t.Run(fmt.Sprintf("six=%v tcp=%v size=%d", six, tcp, spec.Sizes[0]), func(t *testing.T) { testFrames(t, spec) })
			}
		}
	}
}

func testFrames(t *testing.T, spec frame.Spec) {
	b, err := frame.NewBuilder(spec, flow.Model{Flows: 20})
	if err != nil {
		t.Fatal(err)
	}
	buffer := bytes.Repeat([]byte{0xee}, frame.MaxBytes) // earlier content must not remain
	for i := range 60 {
		n := b.Next(buffer, int64(1000+i))
		got := buffer[:n]
		if n != spec.Sizes[0] {
			t.Fatalf("frame %d has %d bytes, want %d", i, n, spec.Sizes[0])
		}
		want := reserialized(t, got)
		want = append(want, make([]byte, max(n-len(want), 0))...) // SYN without a stamp: padding
		if !bytes.Equal(got, want) {
			t.Fatalf("frame %d is\n%x, gopacket makes it\n%x", i, got, want)
		}
		p := gopacket.NewPacket(got, layers.LayerTypeEthernet, gopacket.Default)
		source, destination := endpointsOf(p)
		if source != spec.Source.At(uint32(i%20)) || destination != spec.Destination.At(uint32(i%20)) {
			t.Fatalf("frame %d goes from %v to %v", i, source, destination)
		}
		if tcp, ok := p.TransportLayer().(*layers.TCP); ok && tcp.SYN != (i < 20) {
			t.Fatalf("frame %d has SYN %v", i, tcp.SYN)
		}
		stamp, sort := frame.Read(got)
		wantStamp := frame.Stamp{Stream: 77, Flow: uint32(i % 20), Sequence: uint32(i / 20), TimeNS: int64(1000 + i)}
		if !spec.Stamped() {
			wantStamp = frame.Stamp{}
		}
		if stamp != wantStamp || (sort == frame.Stamped) != spec.Stamped() || sort == frame.Other {
			t.Fatalf("frame %d reads as %+v, sort %d, want %+v", i, stamp, sort, wantStamp)
		}
	}
}

func endpointsOf(p gopacket.Packet) (source, destination netip.AddrPort) {
	addresses, ports := p.NetworkLayer().NetworkFlow(), p.TransportLayer().TransportFlow()
	of := func(a, p gopacket.Endpoint) netip.AddrPort {
		addr, _ := netip.AddrFromSlice(a.Raw())
		return netip.AddrPortFrom(addr, uint16(p.Raw()[0])<<8|uint16(p.Raw()[1]))
	}
	return of(addresses.Src(), ports.Src()), of(addresses.Dst(), ports.Dst())
}

// TestSYNWithoutStampIsBare: a SYN flood of 64-byte frames has bare SYNs, with padding after the
// header.
func TestSYNWithoutStampIsBare(t *testing.T) {
	spec := specOf(t, false, true)
	spec.Sizes = []int{frame.MinBytes}
	b, err := frame.NewBuilder(spec, flow.Model{Kind: flow.SYN, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, frame.MaxBytes)
	n := b.Next(buffer, 0)
	p := gopacket.NewPacket(buffer[:n], layers.LayerTypeEthernet, gopacket.Default)
	ip := p.NetworkLayer().(*layers.IPv4)
	if n != frame.MinBytes || ip.Length != 40 {
		t.Errorf("frame of %d bytes with a packet of %d, want 60 and 40", n, ip.Length)
	}
}

func TestUDPNeverSaysThatItHasNoChecksum(t *testing.T) {
	spec := specOf(t, false, false)
	spec.Sizes = []int{60}
	b, err := frame.NewBuilder(spec, flow.Model{Flows: 1})
	if err != nil {
		t.Fatal(err)
	}
	buffer, all := make([]byte, 60), 0
	for i := range 1 << 17 { // the time runs through all values of a word, so some sum is 0
		b.Next(buffer, int64(i))
		switch got := uint16(buffer[40])<<8 | uint16(buffer[41]); got {
		case 0:
			t.Fatalf("time %d: UDP checksum 0", i)
		case 0xffff:
			all++
		}
	}
	if all == 0 {
		t.Error("no frame had the checksum 0xffff: nothing was tested")
	}
}

func TestIMIX(t *testing.T) {
	spec := specOf(t, false, false)
	sizes := spec.IMIX()
	spec.Sizes = sizes
	const packets = 120_000
	b, err := frame.NewBuilder(spec, flow.Model{Flows: 10, Seed: 5})
	if err != nil {
		t.Fatal(err)
	}
	buffer, count := make([]byte, frame.MaxBytes), map[int]int{}
	for range packets {
		count[b.Next(buffer, 0)]++
	}
	for size, twelfths := range map[int]int{60: 7, 590: 4, 1514: 1} {
		want := packets * twelfths / 12
		if d := count[size] - want; d < -want/20 || d > want/20 {
			t.Errorf("%d frames of %d bytes, want about %d", count[size], size, want)
		}
	}
	if len(count) != 3 {
		t.Errorf("sizes %v", count)
	}
	six := specOf(t, true, true)
	if smallest := slices.Min(six.IMIX()); smallest != 14+40+20+18 {
		t.Errorf("the smallest frame of the IPv6 TCP mix has %d bytes: the stamp doesn't fit or it is too large", smallest)
	}
}

func TestSpecErrors(t *testing.T) {
	for want, change := range map[string]func(*frame.Spec){
		"frame size 63":         func(s *frame.Spec) { s.Sizes = []int{59} },
		"frame size 1519":       func(s *frame.Spec) { s.Sizes = []int{1515} },
		"0 frame sizes":         func(s *frame.Spec) { s.Sizes = nil },
		"different IP versions": func(s *frame.Spec) { s.Source = flow.Range{First: netip.IPv6Loopback(), Addresses: 1, Ports: 1} },
		"room for the stamp":    func(s *frame.Spec) { s.TCP, s.Sizes = true, []int{60, 512} },
		"source: ":              func(s *frame.Spec) { s.Source = flow.Range{} },
		"destination: ":         func(s *frame.Spec) { s.Destination.Ports = 0 },
	} {
		spec := specOf(t, false, false)
		spec.Sizes = []int{60}
		change(&spec)
		if err := spec.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	six := specOf(t, true, false)
	six.Sizes = []int{60}
	if err := six.Check(); err == nil || !strings.Contains(err.Error(), "66 to 1518") {
		t.Errorf("64-byte IPv6: error %v, want the least size, 66", err)
	}
}

// TestReadLooksIntoTunnelsAndTags: one VLAN tag and one outer IP header are stepped over.
func TestReadLooksIntoTunnelsAndTags(t *testing.T) {
	spec := specOf(t, false, false)
	spec.Sizes = []int{60}
	b, err := frame.NewBuilder(spec, flow.Model{Flows: 1})
	if err != nil {
		t.Fatal(err)
	}
	plain := make([]byte, 60)
	b.Next(plain, 9)
	outer4 := append([]byte{0x45, 0, 0, 66, 0, 0, 0, 0, 64, 4, 0, 0}, make([]byte, 8)...)
	outer6 := append([]byte{0x60, 0, 0, 0, 0, 46, 4, 64}, make([]byte, 32)...)
	for name, got := range map[string][]byte{
		"tag":          slices.Concat(plain[:12], []byte{0x81, 0, 0, 5}, plain[12:]),
		"IPv4 in IPv4": slices.Concat(plain[:14], outer4, plain[14:]),
		"IPv4 in IPv6": slices.Concat(plain[:12], []byte{0x86, 0xdd}, outer6, plain[14:]),
	} {
		if stamp, sort := frame.Read(got); sort != frame.Stamped || stamp.TimeNS != 9 {
			t.Errorf("%s: sort %d, stamp %+v", name, sort, stamp)
		}
	}
}

// FuzzRead: any input is read without a panic, and a stamp lies within the frame.
func FuzzRead(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0x45}, 80))
	f.Fuzz(func(t *testing.T, b []byte) {
		if stamp, sort := frame.Read(b); sort != frame.Stamped && stamp != (frame.Stamp{}) {
			t.Errorf("a frame without a stamp gives %+v", stamp)
		} else if sort == frame.Stamped && !bytes.Contains(b, []byte{0x51, 0x67}) {
			t.Error("a stamp without its magic")
		}
	})
}

// TestNextAllocatesNothing: Next does not allocate.
func TestNextAllocatesNothing(t *testing.T) {
	spec := specOf(t, true, true)
	spec.Sizes = spec.IMIX()
	b, err := frame.NewBuilder(spec, flow.Model{Kind: flow.Zipf, Flows: 20, Exponent: 1})
	if err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, frame.MaxBytes)
	if n := testing.AllocsPerRun(1000, func() { b.Next(buffer, 1) }); n > 0 {
		t.Errorf("%v allocations for each frame", n)
	}
}

func BenchmarkNext(b *testing.B) {
	builder, err := frame.NewBuilder(frame.Spec{Sizes: []int{60},
		Source:      flow.Range{First: netip.MustParseAddr("10.0.0.1"), Addresses: 100, FirstPort: 1024, Ports: 1000},
		Destination: flow.Range{First: netip.MustParseAddr("10.1.0.1"), Addresses: 1, FirstPort: 80, Ports: 1}},
		flow.Model{Flows: 1000})
	if err != nil {
		b.Fatal(err)
	}
	buffer := make([]byte, 60)
	b.ReportAllocs()
	for b.Loop() {
		builder.Next(buffer, 1)
	}
}
