package packet_test

import (
	"net/netip"

	"sluice/pipeline/counter"
	"sluice/pipeline/packet"
)

// slowParse is Parse's slow twin. It reads one field after the other, as the RFCs list them, and
// checks the length of the frame before each. start is only added to the offsets.
func slowParse(frame []byte, start int) (packet.Meta, counter.Reason) {
	p := &slow{b: frame, m: packet.Meta{L2: uint16(start)}, start: start}
	reason := p.frame()
	return p.m, reason
}

type slow struct {
	b     []byte
	m     packet.Meta
	start int
}

func (p *slow) u8(at int) int      { return int(p.b[at]) }
func (p *slow) u16(at int) int     { return int(p.b[at])<<8 | int(p.b[at+1]) }
func (p *slow) at(at int) uint16   { return uint16(p.start + at) }
func (p *slow) has(end int) bool   { return len(p.b) >= end }
func isTag(etherType int) bool     { return etherType == 0x8100 || etherType == 0x88a8 }
func isEither(proto int) bool      { return proto == 6 || proto == 17 }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func (p *slow) addr(at, length int) netip.Addr {
	a, _ := netip.AddrFromSlice(p.b[at : at+length])
	return a
}

var martians = []netip.Prefix{
	prefix("0.0.0.0/8"), prefix("127.0.0.0/8"), prefix("224.0.0.0/4"), prefix("240.0.0.0/4"),
	prefix("::/128"), prefix("::1/128"), prefix("ff00::/8"), prefix("::ffff:0:0/96"),
}

func martian(src, dst netip.Addr) bool {
	for _, p := range martians {
		if p.Bits() >= 96 && p.Addr().Is4In6() && (src.Is4In6() || dst.Is4In6()) {
			return true
		}
		if p.Contains(src) {
			return true
		}
	}
	return src == dst
}

func (p *slow) frame() counter.Reason {
	if !p.has(14 + 20) {
		return counter.Short
	}
	etherType, l3 := p.u16(12), 14
	if isTag(etherType) {
		if isTag(p.u16(16)) {
			return counter.VLANStack
		}
		if !p.has(18 + 20) {
			return counter.Short
		}
		p.m.VLAN = uint16(p.u16(14) % 4096)
		etherType, l3 = p.u16(16), 18
	}
	p.m.L3 = p.at(l3)
	switch etherType {
	case 0x0800:
		return p.ipv4(l3)
	case 0x86dd:
		return p.ipv6(l3)
	}
	return counter.NotIP
}

func (p *slow) ipv4(l3 int) counter.Reason {
	headerLength, total := p.u8(l3)%16*4, p.u16(l3+2)
	if p.u8(l3)/16 != 4 || headerLength < 20 || total < headerLength {
		return counter.BadIPHeader
	}
	if !p.has(l3 + total) {
		return counter.Short
	}
	if slowSum(p.b[l3:l3+headerLength]) != 0xffff {
		return counter.BadIPChecksum
	}
	if headerLength > 20 {
		return counter.IPOptions
	}
	moreFragments, offset := p.u16(l3+6)&0x2000 != 0, p.u16(l3+6)&0x1fff
	if moreFragments || offset != 0 {
		return counter.Fragment
	}
	src, dst := p.addr(l3+12, 4), p.addr(l3+16, 4)
	if martian(src, dst) {
		return counter.Martian
	}
	p.m.Src, p.m.Dst, p.m.Family = packet.AddrFrom(src), packet.AddrFrom(dst), 4
	p.m.TTL = uint8(p.u8(l3 + 8))
	p.m.L4, p.m.End = p.at(l3+20), p.at(l3+total)
	p.b = p.b[:l3+total]
	if proto := p.u8(l3 + 9); proto != 1 {
		return p.transport(l3+20, proto)
	}
	return p.icmp(l3+20, []int{3, 4, 11, 12}, p.embedded4)
}

func (p *slow) ipv6(l3 int) counter.Reason {
	if !p.has(l3 + 40) {
		return counter.Short
	}
	payload := p.u16(l3 + 4)
	if p.u8(l3)/16 != 6 || payload == 0 {
		return counter.BadIPHeader
	}
	if !p.has(l3 + 40 + payload) {
		return counter.Short
	}
	src, dst := p.addr(l3+8, 16), p.addr(l3+24, 16)
	if martian(src, dst) {
		return counter.Martian
	}
	p.m.Src, p.m.Dst, p.m.Family = packet.AddrFrom(src), packet.AddrFrom(dst), 6
	p.m.TTL = uint8(p.u8(l3 + 7))
	p.m.End = p.at(l3 + 40 + payload)
	p.b = p.b[:l3+40+payload]
	l4, proto, reason := p.chain(l3, false)
	if reason != counter.None {
		return reason
	}
	p.m.L4 = p.at(l4)
	if proto != 58 {
		return p.transport(l4, proto)
	}
	return p.icmp(l4, []int{1, 2, 3, 4}, p.embedded6)
}

// chain follows the extension headers of the IPv6 header at l3, at most eight.
func (p *slow) chain(l3 int, embedded bool) (l4, proto int, reason counter.Reason) {
	unknown := map[int]bool{50: true, 51: true, 135: true, 139: true, 140: true, 253: true, 254: true}
	known := map[int]bool{0: true, 43: true, 44: true, 60: true}
	proto, l4 = p.u8(l3+6), l3+40
	for seen := 0; known[proto] || unknown[proto]; seen++ {
		if unknown[proto] || seen == 8 {
			return 0, 0, counter.IPOptions
		}
		if !p.has(l4 + 8) {
			return 0, 0, counter.BadIPHeader
		}
		length := 8 * (p.u8(l4+1) + 1)
		if proto == 0 && seen > 0 || proto == 43 && p.u8(l4+3) > 0 {
			return 0, 0, counter.IPOptions
		}
		if proto == 44 {
			more, offset := p.u16(l4+2)%2 != 0, p.u16(l4+2)/8
			if length = 8; offset != 0 || more && !embedded {
				return 0, 0, counter.Fragment
			}
		}
		if !p.has(l4 + length) {
			return 0, 0, counter.BadIPHeader
		}
		proto, l4 = p.u8(l4), l4+length
	}
	return l4, proto, counter.None
}

func (p *slow) transport(l4, proto int) counter.Reason {
	available := len(p.b) - l4
	switch proto {
	case 6:
		if available < 20 || p.u8(l4+12)/16 < 5 || p.u8(l4+12)/16*4 > available {
			return counter.BadL4Header
		}
		flags := p.u8(l4+13) % 32
		fin, syn, rst := flags&1 != 0, flags&2 != 0, flags&4 != 0
		if flags == 0 || syn && fin || syn && rst {
			return counter.BadTCPFlags
		}
		p.m.TCPFlags = uint8(flags)
	case 17:
		if available < 8 || p.u16(l4+4) < 8 || p.u16(l4+4) > available {
			return counter.BadL4Header
		}
	default:
		return counter.UnknownProtocol
	}
	p.m.Proto, p.m.SrcPort, p.m.DstPort = uint8(proto), uint16(p.u16(l4)), uint16(p.u16(l4+2))
	return counter.None
}

func (p *slow) icmp(l4 int, errors []int, embedded func(ip int) bool) counter.Reason {
	if !p.has(l4 + 8) {
		return counter.BadICMP
	}
	for _, typ := range errors {
		if p.u8(l4) == typ {
			if !embedded(l4 + 8) {
				return counter.BadICMP
			}
			p.m.Inner, p.m.ICMPError = p.at(l4+8), true
			return counter.None
		}
	}
	return counter.UnknownProtocol
}

func (p *slow) embedded4(ip int) bool {
	if !p.has(ip+20) || p.u8(ip)/16 != 4 || p.u8(ip)%16 < 5 || p.u16(ip+6)&0x1fff != 0 {
		return false
	}
	p.m.Src, p.m.Dst = packet.AddrFrom(p.addr(ip+12, 4)), packet.AddrFrom(p.addr(ip+16, 4))
	return p.embeddedPorts(ip+p.u8(ip)%16*4, p.u8(ip+9))
}

func (p *slow) embedded6(ip int) bool {
	if !p.has(ip+40) || p.u8(ip)/16 != 6 {
		return false
	}
	src, dst := p.addr(ip+8, 16), p.addr(ip+24, 16)
	p.m.Src, p.m.Dst = packet.AddrFrom(src), packet.AddrFrom(dst)
	l4, proto, reason := p.chain(ip, true)
	return reason == counter.None && !src.Is4In6() && !dst.Is4In6() && p.embeddedPorts(l4, proto)
}

func (p *slow) embeddedPorts(l4, proto int) bool {
	if !isEither(proto) || !p.has(l4+8) {
		return false
	}
	p.m.InnerL4, p.m.Proto = p.at(l4), uint8(proto)
	p.m.SrcPort, p.m.DstPort = uint16(p.u16(l4)), uint16(p.u16(l4+2))
	return true
}
