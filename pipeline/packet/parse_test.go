package packet_test

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
	"sluice/pipeline/packet/packettest"
)

const (
	client4, vip4 = packettest.Client4, packettest.VIP4
	client6, vip6 = packettest.Client6, packettest.VIP6
)

func parse(frame []byte) (packet.Meta, counter.Reason) {
	c := packettest.Place(frame)
	// left over from another frame
	m := packet.Meta{Inner: 99, ICMPError: true, VLAN: 99, TCPFlags: 99}
	return m, packet.Parse(c.Mem, c.Start, c.End, &m)
}

func TestMetaIsOneCacheLine(t *testing.T) {
	if size := reflect.TypeFor[packet.Meta]().Size(); size != 64 {
		t.Errorf("Meta takes %d bytes, want 64", size)
	}
}

func TestParseMeta(t *testing.T) {
	tcp4 := packet.Meta{Src: packet.AddrFrom4(0xc0000207), Dst: packet.AddrFrom4(0xc633640a), SrcPort: 40000, DstPort: 80,
		L2: 256, L3: 270, L4: 290, End: 315, Proto: 6, Family: 4, TTL: 64, TCPFlags: packet.ACK}
	tcp6 := packet.Meta{Src: packet.Addr{Hi: 0x20010db800000000, Lo: 7}, Dst: packet.Addr{Hi: 0x20010db800010000, Lo: 0x10},
		SrcPort: 40000, DstPort: 80, L2: 256, L3: 270, L4: 310, End: 335, Proto: 6, Family: 6, TTL: 64, TCPFlags: packet.ACK}
	with := func(m packet.Meta, change func(m *packet.Meta)) packet.Meta { change(&m); return m }
	backwards := func(m *packet.Meta) {
		m.Src, m.Dst, m.SrcPort, m.DstPort = m.Dst, m.Src, m.DstPort, m.SrcPort
		m.ICMPError, m.TCPFlags = true, 0
	}
	for _, test := range []struct {
		name string
		in   packettest.Packet
		want packet.Meta
	}{
		{"tcp4", packettest.TCP(client4, vip4), tcp4},
		{"padding is not part of it", packettest.TCP(client4, vip4).Padded(1, 2, 3, 4, 5), tcp4},
		{"flags", packettest.TCP(client4, vip4).Flags(packet.FIN | packet.PSH | packet.ACK | 0xe0),
			with(tcp4, func(m *packet.Meta) { m.TCPFlags = packet.FIN | packet.PSH | packet.ACK })},
		{"ttl 0 is for others to judge", packettest.TCP(client4, vip4).TTL(0), with(tcp4, func(m *packet.Meta) { m.TTL = 0 })},
		{"tagged", packettest.TCP(client4, vip4).VLAN(4095),
			with(tcp4, func(m *packet.Meta) { m.VLAN = 4095; m.L3 += 4; m.L4 += 4; m.End += 4 })},
		{"udp4", packettest.UDP(client4, vip4), with(tcp4, func(m *packet.Meta) { m.Proto, m.End, m.TCPFlags = 17, 303, 0 })},
		{"tcp6", packettest.TCP(client6, vip6), tcp6},
		{"extensions", packettest.TCP(client6, vip6).Extension(0, make([]byte, 8)...).Extension(60, make([]byte, 8)...),
			with(tcp6, func(m *packet.Meta) { m.L4 += 16; m.End += 16 })},
		{"icmp4", packettest.ICMP(packettest.Router4, "198.51.100.10", 3, 4, 1400, packettest.TCP(vip4, client4).Options(1, 1, 1, 1).IP()),
			with(tcp4, func(m *packet.Meta) { backwards(m); m.Inner, m.InnerL4, m.End = 298, 322, 347 })},
		{"icmp6", packettest.ICMP(packettest.Router6, "2001:db8:1::10", 2, 0, 1400, packettest.TCP(vip6, client6).IP()),
			with(tcp6, func(m *packet.Meta) { backwards(m); m.Inner, m.InnerL4, m.End = 318, 358, 383 })},
	} {
		t.Run(test.name, func(t *testing.T) {
			frame := test.in.Frame()
			if got, reason := parse(frame); reason != counter.None || got != test.want {
				t.Errorf("%v\ngot  %+v\nwant %+v\n%s", reason, got, test.want, packettest.Decode(frame))
			}
		})
	}
}

// TestSamplesAndPrefixes: every sample is accepted whole, and none of its prefixes is (M01, M02).
func TestSamplesAndPrefixes(t *testing.T) {
	for _, s := range packettest.Samples {
		frame := s.Packet.Frame()
		for n := range frame {
			if _, reason := parse(frame[:n]); reason != counter.Short {
				t.Errorf("%s: first %d of %d bytes: %v, want short", s.Name, n, len(frame), reason)
			}
		}
		if _, reason := parse(frame); reason != counter.None {
			t.Errorf("%s: %v\n%s", s.Name, reason, packettest.Decode(frame))
		}
	}
}

// TestCutPackets: the same for packets that are cut before the IP header is written, so that its
// length fits the frame.
func TestCutPackets(t *testing.T) {
	for _, s := range packettest.Samples {
		frame := s.Packet.Frame()
		m, _ := parse(frame)
		least := int(m.L4) - packettest.Headroom + map[uint8]int{6: 20 + len(tcpOptions(frame, m)), 17: 16 + 1472}[m.Proto]
		if m.ICMPError || m.Proto == packet.UDP {
			least = len(frame) // a UDP length tells of every missing byte
		}
		if m.ICMPError {
			least = int(m.InnerL4) - packettest.Headroom + 8
		}
		for n := int(m.L3) - packettest.Headroom + 20; n < len(frame); n++ {
			cut := slices.Clone(frame[:n])
			setLength(cut[m.L3-packettest.Headroom:])
			_, reason := parse(cut)
			if n >= least && reason != counter.None || n < least && reason == counter.None {
				t.Errorf("%s: cut to %d bytes, %d are needed: %v", s.Name, n, least, reason)
			}
		}
	}
}

func tcpOptions(frame []byte, m packet.Meta) []byte {
	if m.Proto != packet.TCP || m.ICMPError {
		return nil
	}
	l4 := frame[m.L4-packettest.Headroom:]
	return l4[20 : l4[12]>>4*4]
}

// setLength makes an IP packet say that it is as long as it is.
func setLength(ip []byte) {
	if ip[0]>>4 == 4 {
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		packettest.FixIPv4(ip)
		return
	}
	binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-40))
}

// edit gives the frame of p after a change of its IP packet; the IPv4 header checksum follows.
func edit(p packettest.Packet, change func(ip []byte)) []byte {
	frame := p.Frame()
	ip := frame[len(frame)-len(p.IP()):]
	change(ip)
	if ip[0]>>4 == 4 && ip[0]&15 >= 5 && len(ip) >= int(ip[0]&15)*4 {
		packettest.FixIPv4(ip)
	}
	return frame
}

// set gives a change of single bytes: offset and value by turns.
func set(pairs ...int) func(ip []byte) {
	return func(ip []byte) {
		for i := 0; i < len(pairs); i += 2 {
			ip[pairs[i]] = byte(pairs[i+1])
		}
	}
}

type dropCase struct {
	name  string
	frame []byte
	want  counter.Reason
}

func ethernetDrops() []dropCase {
	tcp4, tcp6 := packettest.TCP(client4, vip4), packettest.TCP(client6, vip6)
	etherType := func(p packettest.Packet, v uint16) []byte {
		frame := p.Frame()
		binary.BigEndian.PutUint16(frame[12:], v)
		return frame
	}
	return []dropCase{
		{"empty", nil, counter.Short},
		{"QinQ", tcp4.VLAN(1, 2).Frame(), counter.VLANStack},
		{"five tags", tcp6.VLAN(1, 2, 3, 4, 5).Frame(), counter.VLANStack},
		{"802.3 length", etherType(tcp4, 45), counter.NotIP},
		{"ARP", etherType(tcp4, 0x0806), counter.NotIP},
		{"LLDP", etherType(tcp4, 0x88cc), counter.NotIP},
		{"MPLS", etherType(tcp4, 0x8847), counter.NotIP},
		{"tagged ARP", slices.Replace(tcp4.VLAN(1).Frame(), 16, 18, 0x08, 0x06), counter.NotIP},
		{"IPv4 as IPv6", etherType(tcp4, 0x86dd), counter.BadIPHeader},
		{"IPv6 as IPv4", etherType(tcp6, 0x0800), counter.BadIPHeader},
	}
}

func ipv4Drops() []dropCase {
	tcp, udp := packettest.TCP(client4, vip4), packettest.UDP(client4, vip4)
	drops := []dropCase{
		{"total length 0", edit(tcp, set(2, 0, 3, 0)), counter.BadIPHeader},
		{"total length 19", edit(tcp, set(2, 0, 3, 19)), counter.BadIPHeader},
		{"total length past the end", edit(tcp, set(2, 0, 3, 46)), counter.Short},
		{"options past the end", edit(udp, set(0, 0x4f)), counter.BadIPHeader},
		{"options NOP", tcp.Options(1, 1, 1, 1).Frame(), counter.IPOptions},
		{"options RR", tcp.Options(7, 7, 4, 0, 0, 0, 0, 0).Frame(), counter.IPOptions},
		{"options LSRR", tcp.Options(131, 7, 4, 10, 0, 0, 1, 0).Frame(), counter.IPOptions},
		{"options length 0", tcp.Options(7, 0, 0, 0).Frame(), counter.IPOptions},
		{"first fragment", tcp.Fragment(0, true).Frame(), counter.Fragment},
		{"middle fragment", udp.Fragment(1480, true).Frame(), counter.Fragment},
		{"last fragment", udp.Fragment(1480, false).Frame(), counter.Fragment},
		{"tiny fragment", udp.Fragment(8, true).Payload(nil).Frame(), counter.Fragment},
		{"ping of death", udp.Fragment(65528, false).Frame(), counter.Fragment},
		{"LAND", tcp.From(vip4).Frame(), counter.Martian},
		{"IPIP", packettest.Raw(4, "192.0.2.7", "198.51.100.10", tcp.IP()).Frame(), counter.UnknownProtocol},
		{"ICMPv6 in IPv4", packettest.Raw(58, "192.0.2.7", "198.51.100.10", tcp.IP()).Frame(), counter.UnknownProtocol},
	}
	for ihl := range 5 {
		drops = append(drops, dropCase{fmt.Sprint("IHL ", ihl), edit(tcp, set(0, 0x40+ihl)), counter.BadIPHeader})
	}
	for ihl := 6; ihl <= 11; ihl++ {
		drops = append(drops, dropCase{fmt.Sprint("IHL ", ihl), edit(tcp, set(0, 0x40+ihl)), counter.IPOptions})
	}
	for _, src := range []string{"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.255", "224.0.0.1", "239.1.1.1",
		"240.0.0.1", "255.255.255.255"} {
		drops = append(drops, dropCase{"source " + src, udp.From(src + ":1").Frame(), counter.Martian})
	}
	return drops
}

func ipv6Drops() []dropCase {
	tcp, udp := packettest.TCP(client6, vip6), packettest.UDP(client6, vip6)
	nine := tcp
	for range 9 {
		nine = nine.Extension(60, make([]byte, 8)...)
	}
	drops := []dropCase{
		{"payload length 0", edit(tcp, set(4, 0, 5, 0)), counter.BadIPHeader},
		{"payload length past the end", edit(tcp, set(4, 0, 5, 26)), counter.Short},
		{"version 4", edit(tcp, set(0, 0x40)), counter.BadIPHeader},
		{"nine extension headers", nine.Frame(), counter.IPOptions},
		{"hop-by-hop second", tcp.Extension(60, make([]byte, 8)...).Extension(0, make([]byte, 8)...).Frame(), counter.IPOptions},
		{"segments left", tcp.Extension(43, 0, 0, 4, 1, 0, 0, 0, 0).Frame(), counter.IPOptions},
		{"extension past the end", tcp.Extension(60, 0, 4, 0, 0, 0, 0, 0, 0).Frame(), counter.BadIPHeader},
		{"extension without room", edit(tcp, set(5, 4, 6, 60)), counter.BadIPHeader},
		{"first fragment", udp.Fragment(0, true).Frame(), counter.Fragment},
		{"middle fragment", udp.Fragment(1448, true).Frame(), counter.Fragment},
		{"last fragment", udp.Fragment(1448, false).Frame(), counter.Fragment},
		{"fragment behind options", udp.Extension(0, make([]byte, 8)...).Fragment(8, false).Frame(), counter.Fragment},
		{"no next header", packettest.Raw(59, "2001:db8::7", "2001:db8:1::10", []byte{1}).Frame(), counter.UnknownProtocol},
		{"ICMP in IPv6", packettest.Raw(1, "2001:db8::7", "2001:db8:1::10", make([]byte, 40)).Frame(), counter.UnknownProtocol},
		{"LAND", tcp.From(vip6).Frame(), counter.Martian},
		{"to mapped address", tcp.To("[::ffff:198.51.100.10]:80").Frame(), counter.Martian},
	}
	for _, number := range []uint8{50, 51, 135, 139, 140, 253, 254} {
		drops = append(drops, dropCase{fmt.Sprint("extension ", number), tcp.Extension(number, make([]byte, 8)...).Frame(), counter.IPOptions})
	}
	for _, src := range []string{"::", "::1", "ff02::1", "ffff::1", "::ffff:192.0.2.7"} {
		drops = append(drops, dropCase{"source " + src, udp.From("[" + src + "]:1").Frame(), counter.Martian})
	}
	return drops
}

func transportDrops() []dropCase {
	tcp4, udp4 := packettest.TCP(client4, vip4), packettest.UDP(client4, vip4)
	tcp6, udp6 := packettest.TCP(client6, vip6), packettest.UDP(client6, vip6)
	drops := []dropCase{
		{"TCP header past the end", edit(tcp4, set(32, 0x70)), counter.BadL4Header},
		{"TCP header past the end, IPv6", edit(tcp6, set(52, 0x70)), counter.BadL4Header},
		{"UDP length 7", edit(udp4, set(24, 0, 25, 7)), counter.BadL4Header},
		{"UDP length 0", edit(udp4, set(24, 0, 25, 0)), counter.BadL4Header},
		{"UDP length past the end", edit(udp4, set(24, 0, 25, 14)), counter.BadL4Header},
		{"UDP length 0, IPv6", edit(udp6, set(44, 0, 45, 0)), counter.BadL4Header},
		{"UDP length past the end, IPv6", edit(udp6, set(44, 1, 45, 0)), counter.BadL4Header},
	}
	for words := range 5 {
		drops = append(drops, dropCase{fmt.Sprint("TCP offset ", words), edit(tcp4, set(32, words<<4)), counter.BadL4Header})
	}
	for flags := range 256 {
		name, want := fmt.Sprintf("TCP flags %#02x", flags), counter.None
		fin, syn, rst := flags&1 != 0, flags&2 != 0, flags&4 != 0
		if flags&31 == 0 || syn && fin || syn && rst {
			want = counter.BadTCPFlags
		}
		drops = append(drops, dropCase{name, tcp4.Flags(uint8(flags)).Frame(), want},
			dropCase{name + ", IPv6", tcp6.Flags(uint8(flags)).Frame(), want})
	}
	return drops
}

func icmpDrops() []dropCase {
	about4 := func(b []byte) []byte {
		return packettest.ICMP(packettest.Router4, "198.51.100.10", 3, 1, 0, b).Frame()
	}
	about6 := func(b []byte) []byte {
		return packettest.ICMP(packettest.Router6, "2001:db8:1::10", 1, 1, 0, b).Frame()
	}
	tcp4, tcp6 := packettest.TCP(vip4, client4), packettest.TCP(vip6, client6)
	drops := []dropCase{
		{"about nothing", about4(nil), counter.BadICMP},
		{"about 27 bytes", about4(tcp4.IP()[:27]), counter.BadICMP},
		{"about options cut off", about4(tcp4.Options(1, 1, 1, 1).IP()[:31]), counter.BadICMP},
		{"about a later fragment", about4(tcp4.Fragment(8, false).IP()), counter.BadICMP},
		{"about an ICMP error", about4(packettest.ICMP("198.51.100.10", "192.0.2.7", 3, 1, 0, tcp4.IP()).IP()), counter.BadICMP},
		{"about an echo", about4(packettest.ICMP("198.51.100.10", "192.0.2.7", 8, 0, 0, nil).IP()), counter.BadICMP},
		{"about IPv6", about4(tcp6.IP()), counter.BadICMP},
		{"about IHL 4", about4(append([]byte{0x44}, tcp4.IP()[1:]...)), counter.BadICMP},
		{"about nothing, v6", about6(nil), counter.BadICMP},
		{"about 47 bytes, v6", about6(tcp6.IP()[:47]), counter.BadICMP},
		{"about a later fragment, v6", about6(tcp6.Fragment(8, false).IP()), counter.BadICMP},
		{"about an ICMP error, v6", about6(packettest.ICMP("2001:db8:1::10", "2001:db8::7", 1, 1, 0, tcp6.IP()).IP()), counter.BadICMP},
		{"about IPv4, v6", about6(tcp4.IP()), counter.BadICMP},
		{"about a mapped address, v6", about6(tcp6.To("[::ffff:192.0.2.7]:40000").IP()), counter.BadICMP},
		{"of 7 bytes", packettest.Raw(1, "192.0.2.7", "198.51.100.10", make([]byte, 7)).Frame(), counter.BadICMP},
	}
	for typ := range 256 {
		if !slices.Contains([]int{3, 4, 11, 12}, typ) {
			drops = append(drops, dropCase{fmt.Sprint("type ", typ),
				packettest.ICMP("192.0.2.7", "198.51.100.10", uint8(typ), 0, 0, tcp4.IP()).Frame(), counter.UnknownProtocol})
		}
		if typ < 1 || typ > 4 {
			drops = append(drops, dropCase{fmt.Sprint("type ", typ, " v6"),
				packettest.ICMP("2001:db8::7", "2001:db8:1::10", uint8(typ), 0, 0, tcp6.IP()).Frame(), counter.UnknownProtocol})
		}
	}
	return drops
}

func TestParseDrops(t *testing.T) {
	for layer, drops := range map[string][]dropCase{"ethernet": ethernetDrops(), "ipv4": ipv4Drops(), "ipv6": ipv6Drops(),
		"transport": transportDrops(), "icmp": icmpDrops()} {
		for _, test := range drops {
			if _, reason := parse(test.frame); reason != test.want {
				t.Errorf("%s, %s: %v, want %v\n%s", layer, test.name, reason, test.want, packettest.Decode(test.frame))
			}
			compare(t, test.frame)
		}
	}
}

// TestEveryBitOfTheIPv4Header: a flip of any of the 160 bits is detected (M05).
func TestEveryBitOfTheIPv4Header(t *testing.T) {
	frame := packettest.TCP(client4, vip4).Frame()
	for bit := range 160 {
		flipped := slices.Clone(frame)
		flipped[14+bit/8] ^= 1 << (bit % 8)
		if _, reason := parse(flipped); reason == counter.None {
			t.Errorf("bit %d of byte %d flipped, and the packet passes", bit%8, bit/8)
		}
	}
}

func TestDontFragment(t *testing.T) {
	for _, test := range []struct {
		in   packettest.Packet
		want bool
	}{
		{packettest.TCP(client4, vip4), false},
		{packettest.TCP(client4, vip4).DF(), true},
		{packettest.TCP(client6, vip6), true},
	} {
		c := test.in.Chunk()
		var m packet.Meta
		packet.Parse(c.Mem, c.Start, c.End, &m)
		if got := packet.DontFragment(c.Mem, &m); got != test.want {
			t.Errorf("%v, want %v\n%s", got, test.want, packettest.Decode(c.Frame()))
		}
	}
}

func TestParseDoesNotAllocate(t *testing.T) {
	for _, s := range packettest.Samples {
		c := s.Packet.Chunk()
		var m packet.Meta
		if n := testing.AllocsPerRun(100, func() { packet.Parse(c.Mem, c.Start, c.End, &m) }); n != 0 {
			t.Errorf("%s: %v allocations", s.Name, n)
		}
	}
}
