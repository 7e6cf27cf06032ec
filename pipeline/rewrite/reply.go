package rewrite

import "sluice/pipeline/packet"

// Answers of Sluice: the frame becomes one from the packet's destination to its source, as the
// kernel of a host with the service's address would send it. Afterwards m describes the answer, and
// SwapLink sends it back.
//
// The caller decides whether to answer: never a reset to a reset, never an ICMP error to an ICMP
// error (RFC 1122, 3.2.2), and with a rate limit. An ICMP error embeds the packet as it was
// received, so the packet must not have been rewritten before, its TTL included.

// answerTTL is the TTL or hop limit of answers.
const answerTTL = 64

// controlTOS is the type of service of IPv4 ICMP errors: internetwork control (RFC 1812, 4.3.2.5).
const controlTOS = 0xc0

// Longest ICMP errors, in bytes from the IP header on: RFC 1812, 4.3.2.3 and RFC 4443, 2.4 (c).
const (
	maxICMP4 = 576
	maxICMP6 = 1280
)

// dontFragment is the IPv4 identification and flags of answers: atomic datagrams need no
// identification (RFC 6864).
const dontFragment = 0x4000

// TCPReset turns a TCP segment without RST into the reset that answers it if there is no connection
// (RFC 9293, 3.10.7.1): numbered as the sender expects if it acknowledges something, else
// acknowledging all that it sent.
func TCPReset(mem []byte, m *packet.Meta) {
	t := mem[m.L4:m.End]
	seq, ack, flags := be32(t[8:]), uint32(0), uint64(packet.RST)
	if m.TCPFlags&packet.ACK == 0 {
		payload := len(t) - int(t[12]>>4)*4
		seq, ack = 0, be32(t[4:])+uint32(payload)
		if m.TCPFlags&packet.SYN != 0 {
			ack++
		}
		if m.TCPFlags&packet.FIN != 0 {
			ack++
		}
		flags |= packet.ACK
	}
	m.Src, m.Dst = m.Dst, m.Src
	m.SrcPort, m.DstPort = m.DstPort, m.SrcPort
	segment(mem, m, seq, ack, flags)
}

// TCPAck makes a TCP segment in an empty chunk: an ACK with window 0 from m.Src to m.Dst, with the
// IP header at m.L3, for the IP version of m.Family. SetLink must follow.
func TCPAck(mem []byte, m *packet.Meta, seq, ack uint32) {
	ethertype := uint16(packet.EtherTypeIPv4)
	if m.Family == 6 {
		ethertype = packet.EtherTypeIPv6
	}
	setBE16(mem[m.L3-2:], ethertype)
	segment(mem, m, seq, ack, packet.ACK)
}

// segment writes a TCP segment without options or payload, with IP header, at m.L3, from m.Src to
// m.Dst.
func segment(mem []byte, m *packet.Meta, seq, ack uint32, flags uint64) {
	m.TCPFlags = uint8(flags)
	header(mem, m, 0, packet.TCPLen, packet.TCP, m.Src, m.Dst)
	t := mem[m.L4:m.End]
	setBE16(t[0:], m.SrcPort)
	setBE16(t[2:], m.DstPort)
	setBE32(t[4:], seq)
	setBE32(t[8:], ack)
	setBE64(t[12:], packet.TCPLen/4<<60|flags<<48) // window, checksum and urgent pointer 0
	setBE16(t[16:], packet.Sum(0).Pseudo(m.Src, m.Dst, packet.TCP, len(t)).Bytes(t).Checksum())
}

// EchoReply turns an ICMP echo request into the reply to it (RFC 792; RFC 4443, 4.2). A wrong
// checksum stays as wrong.
func EchoReply(mem []byte, m *packet.Meta) {
	ip, icmp := mem[m.L3:], mem[m.L4:m.End]
	src, dst := m.Src, m.Dst
	var d packet.Diff
	if m.Family == 4 {
		d = put32(ip[source.addr4():], dst.V4()) + put32(ip[destination.addr4():], src.V4())
		applyDiff(ip[10:], d+put16(ip[8:], answerTTL<<8|packet.ICMP))
		d = put16(icmp, 0)
	} else {
		d = putAddr6(ip[source.addr6():], dst) + putAddr6(ip[destination.addr6():], src)
		ip[7] = answerTTL
		d += put16(icmp, 129<<8)
	}
	applyDiff(icmp[2:], d)
	m.Src, m.Dst, m.TTL = dst, src, answerTTL
}

// Unreachable turns the packet into the ICMP error "port unreachable" about it (RFC 792, RFC 4443,
// 3.1).
func Unreachable(mem []byte, m *packet.Meta) {
	if m.Family == 4 {
		icmpError(mem, m, 3, 3, 0)
		return
	}
	icmpError(mem, m, 1, 4, 0)
}

// TimeExceeded turns the packet into the ICMP error "TTL (hop limit) exceeded in transit" about it
// (RFC 792, RFC 4443, 3.3).
func TimeExceeded(mem []byte, m *packet.Meta) {
	if m.Family == 4 {
		icmpError(mem, m, 11, 0, 0)
		return
	}
	icmpError(mem, m, 3, 0, 0)
}

// TooBig turns the packet into the ICMP error that it is longer than mtu, in bytes from the IP
// header on (RFC 1191, 4; RFC 4443, 3.2).
func TooBig(mem []byte, m *packet.Meta, mtu uint16) {
	if m.Family == 4 {
		icmpError(mem, m, 3, 4, mtu)
		return
	}
	icmpError(mem, m, 2, 0, mtu)
}

// icmpError puts the IP and ICMP headers of an error in front of the packet, which it embeds as far
// as allowed. It moves the link header to the front of the IP header. The headroom must be at least
// 48 bytes.
func icmpError(mem []byte, m *packet.Meta, typ, code uint64, mtu uint16) {
	room, grow, tos := uint16(maxICMP4-packet.IPv4Len), uint16(packet.IPv4Len+packet.ICMPLen), uint8(controlTOS)
	proto := uint8(packet.ICMP)
	if m.Family == 6 {
		room, grow, tos = maxICMP6-packet.IPv6Len, packet.IPv6Len+packet.ICMPLen, 0
		proto = packet.ICMPv6
	}
	copy(mem[m.L2-grow:], mem[m.L2:m.L3])
	m.Inner, m.InnerL4 = m.L3, m.L4
	m.ICMPError, m.TCPFlags = true, 0
	length := min(m.End-m.L3+packet.ICMPLen, room)
	m.L2 -= grow
	m.L3 -= grow
	header(mem, m, tos, length, proto, m.Dst, m.Src)

	b := mem[m.L4:m.End]
	setBE64(b, typ<<56|code<<48|uint64(mtu))
	var sum packet.Sum
	if m.Family == 6 {
		sum = sum.Pseudo(m.Dst, m.Src, proto, len(b))
	}
	setBE16(b[2:], sum.Bytes(b).Checksum())
}

// header writes the answer's IP header at m.L3, without options or extension headers, for a payload
// of the given length, and sets the offsets behind it.
func header(mem []byte, m *packet.Meta, tos uint8, length uint16, proto uint8, src, dst packet.Addr) {
	m.TTL = answerTTL
	if m.Family == 4 {
		m.L4 = m.L3 + packet.IPv4Len
		putIPv4(mem[m.L3:], tos, uint64(length), dontFragment, uint64(proto), answerTTL, src, dst)
	} else {
		m.L4 = m.L3 + packet.IPv6Len
		putIPv6(mem[m.L3:], tos, uint64(length), uint64(proto), answerTTL, src, dst)
	}
	m.End = m.L4 + length
}
