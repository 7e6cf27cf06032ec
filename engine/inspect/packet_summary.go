package inspect

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"sluice/pipeline/packet"
)

// summary describes a frame in a line, as far as its bytes go: "tcp 203.0.113.5:4000 >
// 198.51.100.10:80 [S] 60 bytes".
func summary(frame []byte) string {
	at := packet.EthernetLen
	if len(frame) < at {
		return "frame without Ethernet header"
	}
	kind, vlan := binary.BigEndian.Uint16(frame[12:]), ""
	if (kind == packet.EtherTypeTag || kind == packet.EtherTypeTagS) && len(frame) >= at+packet.TagLen {
		vlan = fmt.Sprintf("vlan %d ", binary.BigEndian.Uint16(frame[14:])&0xfff)
		kind = binary.BigEndian.Uint16(frame[16:])
		at += packet.TagLen
	}
	if kind != packet.EtherTypeIPv4 && kind != packet.EtherTypeIPv6 {
		return fmt.Sprintf("%sethertype %#04x", vlan, kind)
	}
	return vlan + packetSummary(frame[at:])
}

// packetSummary does the same for an IP packet.
func packetSummary(b []byte) string {
	ip, ok := readIP(b)
	if !ok {
		return "truncated IP header"
	}
	return fmt.Sprintf("%s %d bytes", ip.flow(), ip.length)
}

// ipView is an IP header as it was received, right or not.
type ipView struct {
	src, dst netip.Addr
	proto    uint8
	length   int
	fragment bool // not the first: what follows is no transport header
	body     []byte
}

func readIP(b []byte) (v ipView, ok bool) {
	switch {
	case len(b) >= packet.IPv4Len && b[0]>>4 == 4:
		v.src, v.dst = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
		v.proto, v.length = b[9], int(binary.BigEndian.Uint16(b[2:]))
		v.fragment = binary.BigEndian.Uint16(b[6:])&0x1fff != 0
		v.body = b[min(len(b), int(b[0]&15)*4):]
	case len(b) >= packet.IPv6Len && b[0]>>4 == 6:
		v.src, v.dst = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
		v.proto, v.length = b[6], packet.IPv6Len+int(binary.BigEndian.Uint16(b[4:]))
		v.body = b[packet.IPv6Len:]
	default:
		return v, false
	}
	return v, true
}

// flow describes the packet's ends and its protocol.
func (v *ipView) flow() string {
	ends := fmt.Sprintf("%s > %s", v.src, v.dst)
	switch {
	case v.fragment:
		return "fragment " + ends
	case v.proto == packet.TCP && len(v.body) >= 14:
		return fmt.Sprintf("tcp %s > %s [%s]", v.end(v.src, 0), v.end(v.dst, 2), tcpFlags(v.body[13]))
	case v.proto == packet.UDP && len(v.body) >= 4:
		return fmt.Sprintf("udp %s > %s", v.end(v.src, 0), v.end(v.dst, 2))
	case v.proto == packet.IPIP || v.proto == packet.IPv6:
		inner, ok := readIP(v.body)
		if !ok {
			return "ipip " + ends
		}
		return fmt.Sprintf("ipip %s: %s", ends, inner.flow())
	case v.proto == packet.ICMP || v.proto == packet.ICMPv6:
		return fmt.Sprintf("icmp %s %s", ends, v.icmp())
	}
	return fmt.Sprintf("protocol %d %s", v.proto, ends)
}

func (v *ipView) end(a netip.Addr, at int) netip.AddrPort {
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(v.body[at:]))
}

// tcpFlags writes flags as tcpdump does.
func tcpFlags(flags byte) string {
	var b strings.Builder
	for i, letter := range "FSRP.U" {
		if flags>>i&1 != 0 {
			b.WriteRune(letter)
		}
	}
	return b.String()
}

// icmp describes an ICMP message; errors and echo have names.
func (v *ipView) icmp() string {
	b := v.body
	if len(b) < packet.ICMPLen {
		return "truncated"
	}
	mtu := binary.BigEndian.Uint16(b[6:])
	switch [3]byte{v.proto, b[0], b[1]} {
	case [3]byte{packet.ICMP, 3, 3}, [3]byte{packet.ICMPv6, 1, 4}:
		return "port unreachable"
	case [3]byte{packet.ICMP, 3, 4}:
		return fmt.Sprintf("fragmentation needed, mtu %d", mtu)
	case [3]byte{packet.ICMPv6, 2, 0}:
		return fmt.Sprintf("packet too big, mtu %d", mtu)
	case [3]byte{packet.ICMP, 11, 0}, [3]byte{packet.ICMPv6, 3, 0}:
		return "time exceeded"
	case [3]byte{packet.ICMP, 8, 0}, [3]byte{packet.ICMPv6, 128, 0}:
		return "echo request"
	case [3]byte{packet.ICMP, 0, 0}, [3]byte{packet.ICMPv6, 129, 0}:
		return "echo reply"
	}
	return fmt.Sprintf("type %d code %d", b[0], b[1])
}
