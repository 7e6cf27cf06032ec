package filter

import (
	"encoding/binary"

	"sluice/pipeline/packet"
)

// arp is ARP's EtherType.
const arp = 0x0806

// view is what conditions read: the headers that a frame has.
type view struct {
	frame    []byte
	length   int
	kind     uint16 // EtherType, after the VLAN tag if there is one
	tagged   bool
	vlan     uint16
	ip       []byte // from the IP header on
	src, dst packet.Addr
	proto    uint8
	body     []byte // after the IP header; nil in all fragments but the first
	ports    bool   // sport and dport are valid
	sport    uint16
	dport    uint16
}

func (v *view) read(frame []byte, length int) {
	v.frame, v.length = frame, length
	if len(frame) < packet.EthernetLen {
		return
	}
	v.kind = binary.BigEndian.Uint16(frame[12:])
	rest := frame[packet.EthernetLen:]
	if (v.kind == packet.EtherTypeTag || v.kind == packet.EtherTypeTagS) && len(rest) >= packet.TagLen {
		v.tagged, v.vlan = true, binary.BigEndian.Uint16(rest)&0xfff
		v.kind = binary.BigEndian.Uint16(rest[2:])
		rest = rest[packet.TagLen:]
	}
	switch {
	case v.kind == packet.EtherTypeIPv4 && len(rest) >= packet.IPv4Len:
		v.ip, v.proto = rest, rest[9]
		v.src, v.dst = packet.AddrFrom4(binary.BigEndian.Uint32(rest[12:])), packet.AddrFrom4(binary.BigEndian.Uint32(rest[16:]))
		if header := int(rest[0]&15) * 4; header <= len(rest) && binary.BigEndian.Uint16(rest[6:])&0x1fff == 0 {
			v.body = rest[header:]
		}
	case v.kind == packet.EtherTypeIPv6 && len(rest) >= packet.IPv6Len:
		v.ip, v.proto, v.body = rest, rest[6], rest[packet.IPv6Len:]
		v.src = packet.Addr{Hi: binary.BigEndian.Uint64(rest[8:]), Lo: binary.BigEndian.Uint64(rest[16:])}
		v.dst = packet.Addr{Hi: binary.BigEndian.Uint64(rest[24:]), Lo: binary.BigEndian.Uint64(rest[32:])}
	}
	if (v.proto == packet.TCP || v.proto == packet.UDP) && len(v.body) >= 4 {
		v.ports = true
		v.sport, v.dport = binary.BigEndian.Uint16(v.body), binary.BigEndian.Uint16(v.body[2:])
	}
}

// is4 and is6 report whether the frame carries an IP packet of the family.
func (v *view) is4() bool { return v.ip != nil && v.kind == packet.EtherTypeIPv4 }
func (v *view) is6() bool { return v.ip != nil && v.kind == packet.EtherTypeIPv6 }

// protocols are the tests of protocol names.
var protocols = map[string]test{
	"ip":    (*view).is4,
	"ip6":   (*view).is6,
	"arp":   func(v *view) bool { return v.kind == arp },
	"tcp":   func(v *view) bool { return v.ip != nil && v.proto == packet.TCP },
	"udp":   func(v *view) bool { return v.ip != nil && v.proto == packet.UDP },
	"icmp":  func(v *view) bool { return v.is4() && v.proto == packet.ICMP },
	"icmp6": func(v *view) bool { return v.is6() && v.proto == packet.ICMPv6 },
}

// headers are where the offsets of tcp[13] and the like count from.
var headers = map[string]func(v *view) []byte{
	"ether": func(v *view) []byte { return v.frame },
	"ip":    func(v *view) []byte { return v.ip },
	"ip6":   func(v *view) []byte { return v.ip },
	"tcp":   func(v *view) []byte { return v.body },
	"udp":   func(v *view) []byte { return v.body },
	"icmp":  func(v *view) []byte { return v.body },
	"icmp6": func(v *view) []byte { return v.body },
}
