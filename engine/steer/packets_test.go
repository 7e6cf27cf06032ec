package steer_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"sluice/engine/steer"
	"sluice/pipeline/service"
)

// The hosts of the tests. B means backend, L a fullnat pool's address, H this host.
const (
	client4, client6 = "203.0.113.7", "2001:db8:c::7"
	router4, router6 = "203.0.113.1", "2001:db8:c::1"

	web4, web6 = "198.51.100.10", "2001:db8:5::10" // tcp 80, tcp 8000-8099, udp 53
	any4, any6 = "198.51.100.20", "2001:db8:5::20" // udp any
	// a neighbour in the same network that is no service
	other4 = "198.51.100.30"

	vip4, vip6 = "198.51.100.40", "2001:db8:5::40" // tcp 80; the host does not have it

	b4, b6             = "10.0.0.11", "fd00::11" // nat: tcp 8080, udp 53
	bAny4, bAny6       = "10.0.0.12", "fd00::12" // nat: tcp and udp any
	bRange4, bRange6   = "10.0.0.13", "fd00::13" // nat: tcp 8000-8099
	bTunnel4, bTunnel6 = "10.0.0.21", "fd00::21" // tun

	h4, h6 = "10.0.0.1", "fd00::1"
	l4, l6 = "10.0.0.2", "fd00::2" // tcp 20000-29999; the host's too
	p4, p6 = "10.0.0.3", "fd00::3" // udp 1024-65535; the pool's alone

	broadcast4 = "10.0.0.255"
)

func key(address string, first, last uint16, p service.Protocol) service.Key {
	return service.Key{Address: netip.MustParseAddr(address), Ports: service.Ports{First: first, Last: last}, Protocol: p}
}

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// testRules has one rule of each kind in each family.
func testRules() steer.Rules {
	r := steer.Rules{
		// the kernel holds one of the services' addresses
		Locals:   addrs(h4, h6, l4, l6, broadcast4, web4),
		Stations: stations(loopbackIndex),
	}
	for _, f := range [][7]string{{web4, any4, b4, bAny4, bRange4, l4, vip4}, {web6, any6, b6, bAny6, bRange6, l6, vip6}} {
		r.Services = append(r.Services, key(f[0], 80, 80, service.TCP), key(f[0], 8000, 8099, service.TCP),
			key(f[0], 53, 53, service.UDP), key(f[1], 0, 65535, service.UDP), key(f[6], 80, 80, service.TCP))
		r.VIPs = append(r.VIPs, netip.MustParseAddr(f[6]))
		r.Replies = append(r.Replies, key(f[2], 8080, 8080, service.TCP), key(f[2], 53, 53, service.UDP),
			key(f[3], 0, 65535, service.UDP), key(f[3], 0, 65535, service.TCP), key(f[4], 8000, 8099, service.TCP))
		r.Pools = append(r.Pools, key(f[5], 20000, 29999, service.TCP))
	}
	for _, f := range [][3]string{{web4, any4, h4}, {web6, any6, h6}} {
		r.Probed = append(r.Probed, key(f[0], 80, 80, service.TCP), key(f[1], 53, 53, service.UDP))
		r.Probers = append(r.Probers, key(f[2], 28672, 32767, service.TCP), key(f[2], 28672, 32767, service.UDP))
	}
	r.Pools = append(r.Pools, key(p4, 1024, 65535, service.UDP), key(p6, 1024, 65535, service.UDP))
	return r
}

// loopbackIndex is the interface that the kernel's test run of a program names: the first one of
// each namespace.
const loopbackIndex = 1

// stations returns what frames to this host are addressed to at a port.
func stations(ifindex int) []steer.Station {
	return []steer.Station{{Ifindex: ifindex, MAC: [6]byte(ourMAC)}, {Ifindex: ifindex, MAC: [6]byte(ourMAC), VLAN: ourVLAN},
		{Ifindex: ifindex, MAC: [6]byte(childMAC)}}
}

const ourVLAN = 7

var (
	ourMAC   = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	theirMAC = net.HardwareAddr{2, 0, 0, 0, 0, 2}
	childMAC = net.HardwareAddr{0, 0, 0x5e, 0, 1, 51} // a macvlan's, in no VLAN
)

// build serialises layers with right lengths and checksums.
func build(t testing.TB, ls ...gopacket.SerializableLayer) []byte {
	t.Helper()
	var network gopacket.NetworkLayer
	for _, l := range ls {
		if n, ok := l.(gopacket.NetworkLayer); ok {
			network = n
		}
		if c, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			if err := c.SetNetworkLayerForChecksum(network); err != nil {
				t.Fatal(err)
			}
		}
	}
	buffer := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buffer, options, ls...); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

func ether(etherType layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{DstMAC: ourMAC, SrcMAC: theirMAC, EthernetType: etherType}
}

// tag is a VLAN tag in front of the given type.
func tag(etherType layers.EthernetType) *layers.Dot1Q {
	return &layers.Dot1Q{VLANIdentifier: ourVLAN, Type: etherType}
}

// ip is an IPv4 or IPv6 header, whichever the addresses are.
func ip(source, destination string, next layers.IPProtocol) gopacket.SerializableLayer {
	s, d := net.ParseIP(source), net.ParseIP(destination)
	if s.To4() != nil {
		return &layers.IPv4{Version: 4, TTL: 64, Protocol: next, SrcIP: s.To4(), DstIP: d.To4()}
	}
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: next, SrcIP: s, DstIP: d}
}

// fragment4 is an IPv4 header of a fragment; offset is in 8-byte units.
func fragment4(source, destination string, next layers.IPProtocol, offset uint16, more bool) *layers.IPv4 {
	header := ip(source, destination, next).(*layers.IPv4)
	header.FragOffset = offset
	if more {
		header.Flags = layers.IPv4MoreFragments
	}
	return header
}

// options4 is an IPv4 header of 24 bytes.
func options4(source, destination string, next layers.IPProtocol) *layers.IPv4 {
	header := ip(source, destination, next).(*layers.IPv4)
	// router alert
	header.Options = []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}}
	return header
}

func tcp(source, destination layers.TCPPort) *layers.TCP {
	return &layers.TCP{SrcPort: source, DstPort: destination, ACK: true, Window: 1000}
}

// synAck is a TCP header that accepts a connection.
func synAck(source, destination layers.TCPPort) *layers.TCP {
	return &layers.TCP{SrcPort: source, DstPort: destination, SYN: true, ACK: true, Window: 1000}
}

// syn is a TCP header that opens a connection.
func syn(source, destination layers.TCPPort) *layers.TCP {
	return &layers.TCP{SrcPort: source, DstPort: destination, SYN: true, Window: 1000}
}

func udp(source, destination layers.UDPPort) *layers.UDP {
	return &layers.UDP{SrcPort: source, DstPort: destination}
}

// The protocol numbers of the tests.
const (
	pTCP, pUDP = layers.IPProtocolTCP, layers.IPProtocolUDP
	pHop       = layers.IPProtocolIPv6HopByHop
	pRouting   = layers.IPProtocolIPv6Routing
	pFragment  = layers.IPProtocolIPv6Fragment
	pOptions   = layers.IPProtocolIPv6Destination
	pICMP4     = layers.IPProtocolICMPv4
	pICMP6     = layers.IPProtocolICMPv6
)

// options is a hop-by-hop or destination options header with 8*(units+1) bytes.
func options(next layers.IPProtocol, units byte) gopacket.Payload {
	b := make([]byte, 8+8*int(units)) // all else is Pad1
	b[0], b[1] = byte(next), units
	return b
}

func routing(next layers.IPProtocol, segmentsLeft byte) gopacket.Payload {
	return gopacket.Payload{byte(next), 0, 4, segmentsLeft, 0, 0, 0, 0}
}

// fragment6 is a fragment header; offset is in 8-byte units.
func fragment6(next layers.IPProtocol, offset uint16, more bool) gopacket.Payload {
	b := gopacket.Payload{byte(next), 0, 0, 0, 1, 2, 3, 4}
	binary.BigEndian.PutUint16(b[2:], offset<<3)
	if more {
		b[3] |= 1
	}
	return b
}

// icmp is an ICMP or ICMPv6 message from source to destination with the given type, that quotes the
// first bytes of a packet.
func icmp(t testing.TB, source, destination string, kind uint8, quote []byte) []byte {
	if net.ParseIP(source).To4() != nil {
		return build(t, ether(layers.EthernetTypeIPv4), ip(source, destination, pICMP4),
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, 1)}, gopacket.Payload(quote))
	}
	return build(t, ether(layers.EthernetTypeIPv6), ip(source, destination, pICMP6),
		&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 1)}, gopacket.Payload(append(make([]byte, 4), quote...)))
}

// packet puts an Ethernet header in front of an IP packet.
func packet(t testing.TB, ls ...gopacket.SerializableLayer) []byte {
	etherType := layers.EthernetTypeIPv6
	if _, ok := ls[0].(*layers.IPv4); ok {
		etherType = layers.EthernetTypeIPv4
	}
	return build(t, append([]gopacket.SerializableLayer{ether(etherType)}, ls...)...)
}
