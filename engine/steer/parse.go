package steer

import (
	"encoding/binary"
	"net/netip"

	"sluice/pipeline/service"
)

// packet is what the XDP program reads of an IP packet.
type packet struct {
	source, destination netip.AddrPort // the ports are 0 if the packet has none
	protocol            int            // number behind IP's headers, or a later fragment's
	payload             []byte         // behind IP's headers, without padding
	fragment            bool           // part of a packet
	later               bool           // a part other than the first
	id                  uint32         // of a fragment
	hops                int            // hop limit, in IPv6
}

// Protocol numbers and next headers (IANA).
const (
	hopByHop           = 0
	icmp4              = 1
	routing            = 43
	fragment6          = 44
	icmp6              = 58
	destinationOptions = 60
)

const (
	ethernetLen = 14
	tagLen      = 4
	ipv4Len     = 20
	ipv6Len     = 40
	portsLen    = 4 // source and destination, at the start of TCP and UDP
	icmpLen     = 8

	maxExtensions = 8 // MAX_EXTENSIONS in steer.c
)

// EtherTypes (IEEE 802).
const (
	typeIPv4       = 0x0800
	typeTag        = 0x8100 // 802.1Q
	typeIPv6       = 0x86dd
	typeServiceTag = 0x88a8 // 802.1ad
)

// ethernet is what the XDP program reads of a frame in front of its IP packet.
type ethernet struct {
	destination [6]byte
	vlan        uint16 // identifier; 0: untagged, or tagged with a priority only
	isIPv6      bool
	ip          []byte // with padding
}

// parseEthernet reads the headers in front of IP. The reason is 0, or why the frame passes to the
// kernel whatever the rules are.
func parseEthernet(frame []byte) (ethernet, Reason) {
	if len(frame) < ethernetLen {
		return ethernet{}, ShortFrame
	}
	if (frame[0]|frame[6])&1 == 1 {
		return ethernet{}, GroupMAC
	}
	e := ethernet{destination: [6]byte(frame)}
	etherType, rest := be16(frame[12:]), frame[ethernetLen:]
	if etherType == typeTag || etherType == typeServiceTag {
		if len(rest) < tagLen {
			return ethernet{}, ShortFrame
		}
		if e.vlan = be16(rest) & 0xfff; e.vlan != 0 && etherType == typeServiceTag {
			return ethernet{}, ServiceTag
		}
		etherType, rest = be16(rest[2:]), rest[tagLen:]
	}
	e.isIPv6, e.ip = etherType == typeIPv6, rest
	if etherType != typeIPv4 && etherType != typeIPv6 {
		return ethernet{}, NotIP
	}
	return e, 0
}

// parseFrame returns the IP packet in an Ethernet frame. The reason is 0, or why the frame passes
// to the kernel whatever the rules about ports are. With BadExtensions and NoPorts the packet has
// its addresses.
func parseFrame(frame []byte) (packet, Reason) {
	e, reason := parseEthernet(frame)
	switch {
	case reason != 0:
		return packet{}, reason
	case e.isIPv6:
		return parse6(e.ip, false)
	}
	return parse4(e.ip, false)
}

// parse4 reads an IPv4 packet. A quoted one, in an ICMP error, is cut off somewhere: its length
// field means nothing.
func parse4(b []byte, quoted bool) (packet, Reason) {
	if len(b) < ipv4Len || b[0]>>4 != 4 {
		return packet{}, BadIPHeader
	}
	header, length := int(b[0]&15)*4, int(be16(b[2:]))
	if quoted {
		length = len(b)
	}
	if header < ipv4Len || length < header || length > len(b) {
		return packet{}, BadIPHeader
	}
	flags := be16(b[6:])
	p := packet{
		source:      netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[12:])), 0),
		destination: netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[16:])), 0),
		protocol:    int(b[9]),
		payload:     b[header:length],
		fragment:    flags&0x3fff != 0, // more fragments, or an offset
		later:       flags&0x1fff != 0,
		id:          uint32(be16(b[4:])),
	}
	return p, p.readPorts()
}

// parse6 reads an IPv6 packet, as parse4 does.
func parse6(b []byte, quoted bool) (packet, Reason) {
	if len(b) < ipv6Len || b[0]>>4 != 6 {
		return packet{}, BadIPHeader
	}
	length := ipv6Len + int(be16(b[4:]))
	if quoted {
		length = len(b)
	}
	if length > len(b) {
		return packet{}, BadIPHeader
	}
	source, destination := netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	if source.Is4In6() || destination.Is4In6() { // never on a wire, and in the maps they mean IPv4
		return packet{}, BadIPHeader
	}
	p := packet{
		source:      netip.AddrPortFrom(source, 0),
		destination: netip.AddrPortFrom(destination, 0),
		protocol:    int(b[6]),
		payload:     b[ipv6Len:length],
		hops:        int(b[7]),
	}
	if reason := p.skipExtensions(); reason != 0 {
		return p, reason
	}
	return p, p.readPorts()
}

// skipExtensions moves the payload behind IPv6's extension headers.
func (p *packet) skipExtensions() Reason {
	for n := 0; isExtension(p.protocol) || p.protocol == fragment6; n++ {
		if n == maxExtensions || len(p.payload) < 8 {
			return BadExtensions
		}
		header, size := p.payload, 8+8*int(p.payload[1])
		switch p.protocol {
		case routing:
			if header[3] != 0 { // segments left
				return BadExtensions
			}
		case fragment6:
			size = 8
			p.fragment = p.fragment || be16(header[2:])&0xfff9 != 0 // an offset, or more fragments
			p.later = be16(header[2:])&0xfff8 != 0
			p.id = binary.BigEndian.Uint32(header[4:])
		}
		if len(header) < size {
			return BadExtensions
		}
		p.protocol, p.payload = int(header[0]), header[size:]
		if p.later { // what follows is the middle of something
			return 0
		}
	}
	return 0
}

func isExtension(header int) bool {
	return header == hopByHop || header == routing || header == destinationOptions
}

// readPorts reads the ports of TCP and UDP.
func (p *packet) readPorts() Reason {
	if !p.balanced() || p.later {
		return 0
	}
	if len(p.payload) < portsLen {
		return NoPorts
	}
	p.source = netip.AddrPortFrom(p.source.Addr(), be16(p.payload))
	p.destination = netip.AddrPortFrom(p.destination.Addr(), be16(p.payload[2:]))
	return 0
}

// balanced reports whether a service could have the packet's protocol.
func (p *packet) balanced() bool {
	return p.protocol == int(service.TCP) || p.protocol == int(service.UDP)
}

// The flags of TCP (RFC 9293, 3.1), and where they are.
const (
	fin = 1 << iota
	syn
	rst
	_
	ack

	tcpFlagsAt = 13
)

// flags returns the TCP flags, 0 if the packet has none.
func (p *packet) flags() byte {
	if p.protocol != int(service.TCP) || len(p.payload) <= tcpFlagsAt {
		return 0
	}
	return p.payload[tcpFlagsAt]
}

func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
