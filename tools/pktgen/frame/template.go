package frame

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// Template has the headers that all frames of a Spec have in common. Both lengths, checksums,
// ports, TCP sequence number and flags, and the last 32 bits of the addresses are zero.
type Template struct {
	Ethernet [ethernetBytes]byte
	IP       []byte // 20 or 40 bytes
	L4       []byte // 8 or 20 bytes
}

// Offsets of the fields that Template leaves zero.
const (
	ipv4LengthAt      = 2
	ipv4ChecksumAt    = 10
	ipv4SourceAt      = 12 // of the last 32 bits
	ipv4DestinationAt = 16
	ipv6LengthAt      = 4
	ipv6SourceAt      = 20
	ipv6DestinationAt = 36
	udpLengthAt       = 4
	udpChecksumAt     = 6
	tcpSequenceAt     = 4
	tcpFlagsAt        = 13
	tcpChecksumAt     = 16
)

// NewTemplate returns the headers. TTL is 64, fragmentation forbidden, the TCP window 65,535.
func NewTemplate(s Spec) (Template, error) {
	var t Template
	buffer := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{}, s.layers()...); err != nil {
		return t, fmt.Errorf("making the headers: %w", err)
	}
	b := buffer.Bytes()
	copy(t.Ethernet[:], b)
	t.IP = b[ethernetBytes : ethernetBytes+s.ipBytes()]
	t.L4 = b[ethernetBytes+s.ipBytes() : s.headerBytes()] // gopacket pads frames
	// The fields that gopacket writes and that Builder writes for each packet.
	if s.Is6() {
		clear(t.IP[ipv6SourceAt : ipv6SourceAt+4])
		clear(t.IP[ipv6DestinationAt : ipv6DestinationAt+4])
	} else {
		clear(t.IP[ipv4SourceAt:])
	}
	return t, nil
}

func (s Spec) layers() []gopacket.SerializableLayer {
	ethernet := &layers.Ethernet{SrcMAC: s.SourceMAC[:], DstMAC: s.DestinationMAC[:], EthernetType: layers.EthernetTypeIPv4}
	protocol := layers.IPProtocolUDP
	var l4 gopacket.SerializableLayer = &layers.UDP{}
	if s.TCP {
		protocol = layers.IPProtocolTCP
		l4 = &layers.TCP{Window: 65535, DataOffset: tcpBytes / 4}
	}
	if s.Is6() {
		ethernet.EthernetType = layers.EthernetTypeIPv6
		return []gopacket.SerializableLayer{ethernet, &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: protocol,
			SrcIP: slice(s.Source.First), DstIP: slice(s.Destination.First)}, l4}
	}
	return []gopacket.SerializableLayer{ethernet, &layers.IPv4{Version: 4, IHL: ipv4Bytes / 4, TTL: 64, Protocol: protocol,
		Flags: layers.IPv4DontFragment, SrcIP: slice(s.Source.First), DstIP: slice(s.Destination.First)}, l4}
}

func slice(a netip.Addr) net.IP { return a.AsSlice() }
