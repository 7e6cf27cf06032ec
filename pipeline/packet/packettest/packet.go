package packettest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// MAC addresses of the frames built, unless MACs says something else: from NeighbourMAC to OurMAC.
var (
	NeighbourMAC = [6]byte{0x02, 0, 0, 0, 0, 0x01}
	OurMAC       = [6]byte{0x02, 0, 0, 0, 0, 0x02}
)

// Packet describes a frame. Its methods return a changed copy and leave the receiver as it is, so
// that the frame wanted can be told by how it differs from the frame put in.
type Packet struct {
	src, dst     netip.Addr
	sport, dport uint16
	proto        uint8
	raw          bool // no transport header but what is in payload
	ttl, tos     uint8
	id           uint16
	df           bool
	fragOffset   uint16 // IPv4, in units of 8 bytes
	more         bool
	flow         uint32
	options      []byte // IPv4
	extensions   []extension
	vlans        []uint16
	smac, dmac   [6]byte
	flags        uint8 // TCP
	seq, ack     uint32
	window       uint16
	tcpOptions   []byte
	noSum        bool   // UDP
	typ, code    uint8  // ICMP
	rest         uint32 // ICMP, second word
	payload      []byte
	wrongBy      uint16
	trailer      []byte
}

type extension struct {
	number uint8
	header []byte
}

// TCP describes a segment with ACK and five bytes of payload; src and dst are like
// "192.0.2.7:40000" or "[2001:db8::7]:40000".
func TCP(src, dst string) Packet {
	p := base(6, src, dst)
	p.flags, p.seq, p.ack, p.window = 16, 1000, 2000, 512
	p.payload = []byte("hello")
	return p
}

// UDP describes a datagram with five bytes of payload.
func UDP(src, dst string) Packet {
	p := base(17, src, dst)
	p.payload = []byte("hello")
	return p
}

// ICMP describes an ICMP or ICMPv6 message between addresses; rest is the second word of its
// header, e.g. the MTU. For an error, body is the packet embedded: about.IP().
func ICMP(src, dst string, typ, code uint8, rest uint32, body []byte) Packet {
	p := base(1, src, dst)
	if p.src.Is6() {
		p.proto = 58
	}
	p.typ, p.code, p.rest, p.payload = typ, code, rest, body
	return p
}

// Raw describes an IP packet between addresses with any protocol and payload.
func Raw(proto uint8, src, dst string, payload []byte) Packet {
	p := base(proto, src, dst)
	p.raw, p.payload = true, payload
	return p
}

func base(proto uint8, src, dst string) Packet {
	p := Packet{proto: proto, ttl: 64, smac: NeighbourMAC, dmac: OurMAC}
	return p.From(src).To(dst)
}

// From sets the source: an address, or an address with a port.
func (p Packet) From(src string) Packet { p.src, p.sport = end(src); return p }

// To sets the destination.
func (p Packet) To(dst string) Packet { p.dst, p.dport = end(dst); return p }

// TTL sets the TTL or hop limit; it is 64 otherwise.
func (p Packet) TTL(ttl uint8) Packet { p.ttl = ttl; return p }

// TOS sets the type of service or traffic class.
func (p Packet) TOS(tos uint8) Packet { p.tos = tos; return p }

// ID sets the IPv4 identification.
func (p Packet) ID(id uint16) Packet { p.id = id; return p }

// DF sets the IPv4 don't-fragment flag.
func (p Packet) DF() Packet { p.df = true; return p }

// Fragment makes the packet a fragment at an offset in bytes, a multiple of 8; more says that
// others follow. In IPv6 a fragment header is appended to the extension headers. The payload is not
// cut to fit.
func (p Packet) Fragment(offset uint16, more bool) Packet {
	if p.src.Is6() {
		if more {
			offset |= 1
		}
		return p.Extension(44, 0, 0, byte(offset>>8), byte(offset), 0, 0, 0, 1)
	}
	p.fragOffset, p.more = offset/8, more
	return p
}

// FlowLabel sets the IPv6 flow label.
func (p Packet) FlowLabel(label uint32) Packet { p.flow = label; return p }

// Options sets the IPv4 options; their length must be a multiple of 4, at most 40.
func (p Packet) Options(b ...byte) Packet { p.options = b; return p }

// Extension appends an IPv6 extension header of the given number. The first byte of header, which
// names the next one, is filled in; its length must be a multiple of 8.
func (p Packet) Extension(number uint8, header ...byte) Packet {
	p.extensions = append(slices.Clip(p.extensions), extension{number, header})
	return p
}

// VLAN puts the frame behind 802.1Q tags, the outermost first; without ids it has none.
func (p Packet) VLAN(ids ...uint16) Packet { p.vlans = ids; return p }

// MACs sets the Ethernet addresses.
func (p Packet) MACs(src, dst [6]byte) Packet { p.smac, p.dmac = src, dst; return p }

// Flags sets the TCP flags.
func (p Packet) Flags(flags uint8) Packet { p.flags = flags; return p }

// Seq sets the TCP sequence and acknowledgment numbers; they are 1000 and 2000 otherwise.
func (p Packet) Seq(seq, ack uint32) Packet { p.seq, p.ack = seq, ack; return p }

// Window sets the TCP window; it is 512 otherwise.
func (p Packet) Window(window uint16) Packet { p.window = window; return p }

// TCPOptions sets the TCP options; their length must be a multiple of 4, at most 40.
func (p Packet) TCPOptions(b ...byte) Packet { p.tcpOptions = b; return p }

// Payload sets what follows the transport header.
func (p Packet) Payload(b []byte) Packet { p.payload = b; return p }

// NoChecksum sends UDP without a checksum.
func (p Packet) NoChecksum() Packet { p.noSum = true; return p }

// WrongBy makes the TCP, UDP or ICMP checksum wrong by n (ones' complement), which no change by
// difference alters.
func (p Packet) WrongBy(n uint16) Packet { p.wrongBy = n; return p }

// Padded appends bytes to the frame that don't belong to the IP packet.
func (p Packet) Padded(b ...byte) Packet { p.trailer = b; return p }

// Frame gives the bytes of the whole frame.
func (p Packet) Frame() []byte {
	all := []gopacket.SerializableLayer{p.ethernet()}
	for i, id := range p.vlans {
		next := p.etherType()
		if i < len(p.vlans)-1 {
			next = layers.EthernetTypeDot1Q
		}
		all = append(all, &layers.Dot1Q{VLANIdentifier: id, Type: next})
	}
	ip := p.IP()
	frame := serialize(append(all, gopacket.Payload(ip))...)
	frame = frame[:14+4*len(p.vlans)+len(ip)] // gopacket pads short frames
	return slices.Concat(frame, p.trailer)
}

// IP gives the bytes of the IP packet.
func (p Packet) IP() []byte {
	var ip gopacket.SerializableLayer
	if p.src.Is4() {
		ip = &layers.IPv4{Version: 4, TOS: p.tos, Id: p.id, Flags: p.ipFlags(), FragOffset: p.fragOffset, TTL: p.ttl,
			Protocol: layers.IPProtocol(p.proto), SrcIP: p.src.AsSlice(), DstIP: p.dst.AsSlice()}
	} else {
		ip = &layers.IPv6{Version: 6, TrafficClass: p.tos, FlowLabel: p.flow, HopLimit: p.ttl,
			NextHeader: layers.IPProtocol(p.proto), SrcIP: p.src.AsSlice(), DstIP: p.dst.AsSlice()}
	}
	b := serialize(append([]gopacket.SerializableLayer{ip}, p.transport(ip)...)...)
	p.fixTransport(b)
	if p.src.Is4() {
		return p.insertOptions(b)
	}
	return p.insertExtensions(b)
}

func (p Packet) ethernet() *layers.Ethernet {
	e := &layers.Ethernet{SrcMAC: p.smac[:], DstMAC: p.dmac[:], EthernetType: p.etherType()}
	if len(p.vlans) > 0 {
		e.EthernetType = layers.EthernetTypeDot1Q
	}
	return e
}

func (p Packet) etherType() layers.EthernetType {
	if p.src.Is4() {
		return layers.EthernetTypeIPv4
	}
	return layers.EthernetTypeIPv6
}

func (p Packet) ipFlags() (flags layers.IPv4Flag) {
	if p.df {
		flags |= layers.IPv4DontFragment
	}
	if p.more {
		flags |= layers.IPv4MoreFragments
	}
	return flags
}

// transport gives the layers behind the IP header, which the checksum covers in part.
func (p Packet) transport(ip gopacket.SerializableLayer) []gopacket.SerializableLayer {
	under, _ := ip.(gopacket.NetworkLayer)
	payload := gopacket.Payload(p.payload)
	if p.raw {
		return []gopacket.SerializableLayer{payload}
	}
	switch p.proto {
	case 6:
		has := func(bit uint8) bool { return p.flags&bit != 0 }
		t := &layers.TCP{SrcPort: layers.TCPPort(p.sport), DstPort: layers.TCPPort(p.dport), Seq: p.seq, Ack: p.ack,
			Window: p.window, FIN: has(1), SYN: has(2), RST: has(4), PSH: has(8), ACK: has(16), URG: has(32),
			ECE: has(64), CWR: has(128)}
		must(t.SetNetworkLayerForChecksum(under))
		return []gopacket.SerializableLayer{t, gopacket.Payload(slices.Concat(p.tcpOptions, p.payload))}
	case 17:
		u := &layers.UDP{SrcPort: layers.UDPPort(p.sport), DstPort: layers.UDPPort(p.dport)}
		must(u.SetNetworkLayerForChecksum(under))
		return []gopacket.SerializableLayer{u, payload}
	case 1:
		i := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(p.typ, p.code), Id: uint16(p.rest >> 16), Seq: uint16(p.rest)}
		return []gopacket.SerializableLayer{i, payload}
	case 58:
		i := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(p.typ, p.code)}
		must(i.SetNetworkLayerForChecksum(under))
		rest := binary.BigEndian.AppendUint32(nil, p.rest)
		return []gopacket.SerializableLayer{i, gopacket.Payload(slices.Concat(rest, p.payload))}
	}
	return []gopacket.SerializableLayer{payload}
}

// fixTransport does in the serialized packet what the layers cannot do: TCP options, and special
// checksums.
func (p Packet) fixTransport(b []byte) {
	l4 := b[20:]
	if p.src.Is6() {
		l4 = b[40:]
	}
	field, ok := map[uint8]int{6: 16, 17: 6, 1: 2, 58: 2}[p.proto]
	if !ok || p.raw {
		return
	}
	sum := binary.BigEndian.Uint16(l4[field:])
	if p.proto == 6 {
		words := uint8(len(p.tcpOptions) / 4)
		l4[12] += words << 4
		sum = plus(sum, ^(uint16(words) << 12))
	}
	if p.wrongBy != 0 {
		sum = plus(sum, p.wrongBy)
	}
	switch { // of the two zeros, UDP sends all ones and the others all zeros
	case p.proto == 17 && sum == 0:
		sum = 0xffff
	case p.proto != 17 && sum == 0xffff:
		sum = 0
	}
	if p.proto == 17 && p.noSum {
		sum = 0
	}
	binary.BigEndian.PutUint16(l4[field:], sum)
}

func (p Packet) insertOptions(b []byte) []byte {
	if len(p.options) == 0 {
		return b
	}
	b = slices.Insert(b, 20, p.options...)
	b[0] += byte(len(p.options) / 4)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	FixIPv4(b)
	return b
}

func (p Packet) insertExtensions(b []byte) []byte {
	for _, e := range slices.Backward(p.extensions) {
		header := bytes.Clone(e.header)
		header[0], b[6] = b[6], e.number
		b = slices.Insert(b, 40, header...)
	}
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	return b
}

// FixIPv4 recomputes the header checksum of the IPv4 packet b, after a test has changed its header.
func FixIPv4(b []byte) {
	header := b[:min(int(b[0]&15)*4, len(b))]
	header[10], header[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^sum(header))
}

func serialize(all ...gopacket.SerializableLayer) []byte {
	buf := gopacket.NewSerializeBuffer()
	must(gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...))
	return bytes.Clone(buf.Bytes())
}

// end parses an address with or without a port.
func end(s string) (netip.Addr, uint16) {
	if a, err := netip.ParseAddr(s); err == nil {
		return a, 0
	}
	ap, err := netip.ParseAddrPort(s)
	must(err)
	return ap.Addr(), ap.Port()
}

func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("packettest: %v", err))
	}
}

// Addr gives the address of an end such as Client4.
func Addr(s string) netip.Addr { a, _ := end(s); return a }

// Port gives the port of an end, 0 if there is none.
func Port(s string) uint16 { _, port := end(s); return port }
