package steer_test

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"sluice/engine/steer"
	"sluice/pipeline/service"
)

// actionTwin decides about a frame like steer.c on a port without a socket, slowly: it cuts the
// frame into slices and goes through the rules one by one, without maps, role bits, port blocks or
// offsets.
func actionTwin(r steer.Rules, frame []byte) uint32 {
	if len(frame) < 14 || frame[0]&1 == 1 {
		return pass
	}
	etherType, rest := be16(frame[12:]), frame[14:]
	if etherType == 0x8100 || etherType == 0x88a8 {
		if len(rest) < 4 {
			return pass
		}
		etherType, rest = be16(rest[2:]), rest[4:]
	}
	var p twinPacket
	var ok bool
	switch etherType {
	case 0x0800:
		p, ok = twinParse4(rest, false)
	case 0x86dd:
		p, ok = twinParse6(rest, false)
	}
	if !ok {
		return pass
	}
	if len(p.protocols) > 0 {
		return p.action(r)
	}
	if p.fragment || p.next != map[bool]int{true: 58, false: 1}[p.source.Is6()] {
		return pass
	}
	return twinError(r, p)
}

type twinPacket struct {
	source, destination         netip.Addr
	sourcePort, destinationPort uint16
	protocols                   []service.Protocol // those that it may have; none if neither TCP nor UDP
	next                        int                // protocol number
	payload                     []byte
	fragment                    bool // part of a packet only
	noPorts                     bool // and the part without the ports
}

// finish reads what is behind the IP headers.
func (p twinPacket) finish() (twinPacket, bool) {
	if p.next == 6 || p.next == 17 {
		p.protocols = []service.Protocol{service.Protocol(p.next)}
	}
	if len(p.protocols) == 0 || p.noPorts {
		return p, true
	}
	if len(p.payload) < 4 {
		p.noPorts = true
		return p, p.fragment
	}
	p.sourcePort, p.destinationPort = be16(p.payload), be16(p.payload[2:])
	return p, true
}

func twinParse4(b []byte, quoted bool) (twinPacket, bool) {
	if len(b) < 20 || b[0]>>4 != 4 {
		return twinPacket{}, false
	}
	header, length := int(b[0]&15)*4, int(be16(b[2:]))
	if quoted {
		length = len(b)
	}
	if header < 20 || length < header || length > len(b) {
		return twinPacket{}, false
	}
	flags := be16(b[6:])
	return twinPacket{
		source:      netip.AddrFrom4([4]byte(b[12:])),
		destination: netip.AddrFrom4([4]byte(b[16:])),
		next:        int(b[9]),
		payload:     b[header:length],
		fragment:    flags&0x3fff != 0,
		noPorts:     flags&0x1fff != 0,
	}.finish()
}

func twinParse6(b []byte, quoted bool) (twinPacket, bool) {
	if len(b) < 40 || b[0]>>4 != 6 {
		return twinPacket{}, false
	}
	length := 40 + int(be16(b[4:]))
	if quoted {
		length = len(b)
	}
	if length > len(b) {
		return twinPacket{}, false
	}
	p := twinPacket{
		source:      netip.AddrFrom16([16]byte(b[8:])),
		destination: netip.AddrFrom16([16]byte(b[24:])),
		next:        int(b[6]),
		payload:     b[40:length],
	}
	if p.source.Is4In6() || p.destination.Is4In6() {
		return p, false
	}
	headers := []int{0, 43, 44, 60} // hop-by-hop, routing, fragment, destination options
	for n := 0; slices.Contains(headers, p.next); n++ {
		if n == 8 || len(p.payload) < 8 {
			return p, false
		}
		header, size := p.payload, 8+8*int(p.payload[1])
		if p.next == 43 && header[3] != 0 {
			return p, false
		}
		if p.next == 44 {
			size = 8
			p.fragment = p.fragment || be16(header[2:])&0xfff9 != 0
			p.noPorts = be16(header[2:])&0xfff8 != 0
		}
		if len(header) < size {
			return p, false
		}
		p.next, p.payload = int(header[0]), header[size:]
		if !p.noPorts {
			continue
		}
		if p.next == 0 || p.next == 43 || p.next == 60 {
			p.next, p.protocols = -1, []service.Protocol{service.TCP, service.UDP}
		}
		break
	}
	return p.finish()
}

// action says what becomes of a TCP or UDP packet.
func (p twinPacket) action(r steer.Rules) uint32 {
	local := slices.Contains(r.Locals, p.destination)
	switch {
	case p.matches(p.destination, p.destinationPort, r.Services, true),
		p.matches(p.destination, p.destinationPort, r.Pools, !local):
		return drop
	case p.answersProbe(r):
		return redirect
	case local || nobodys(p.destination):
		return pass
	}
	return actionFor(p.matches(p.source, p.sourcePort, r.Replies, true))
}

// answersProbe says whether the packet comes from what was probed to where the probe came from.
func (p twinPacket) answersProbe(r steer.Rules) bool {
	return !p.fragment && p.matches(p.source, p.sourcePort, r.Probed, false) &&
		p.matches(p.destination, p.destinationPort, r.Probers, false)
}

// matches goes through the rules; a fragment matches whatever its port if fragments is true.
func (p twinPacket) matches(a netip.Addr, port uint16, keys []service.Key, fragments bool) bool {
	for _, key := range keys {
		if key.Address != a || !slices.Contains(p.protocols, key.Protocol) {
			continue
		}
		if p.fragment && fragments || !p.noPorts && key.Ports.Contains(port) {
			return true
		}
	}
	return false
}

var nowhere = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("224.0.0.0/3"),
	netip.MustParsePrefix("::/96"),
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("ff00::/8"),
}

func nobodys(a netip.Addr) bool {
	return slices.ContainsFunc(nowhere, func(p netip.Prefix) bool { return p.Contains(a) })
}

// twinError says what becomes of the ICMP message in p, if it is an error about something of ours:
// case by case, as in the table at the top of steer.c.
func twinError(r steer.Rules, p twinPacket) uint32 {
	if len(p.payload) < 8 {
		return pass
	}
	types, parse := []byte{3, 4, 11, 12}, twinParse4
	if p.source.Is6() {
		types, parse = []byte{1, 2, 3, 4}, twinParse6
	}
	q, ok := parse(p.payload[8:], true)
	if !ok || !slices.Contains(types, p.payload[0]) || q.source != p.destination {
		return pass
	}
	local := slices.Contains(r.Locals, q.source)
	switch {
	case len(q.protocols) == 0:
		return pass
	case q.matches(q.source, q.sourcePort, r.Services, true): // from a service to a client
		return drop
	case q.matches(q.source, q.sourcePort, r.Pools, !local): // from fullnat to a backend
		return drop
	case !q.fragment && q.matches(q.source, q.sourcePort, r.Probers, false) &&
		q.matches(q.destination, q.destinationPort, r.Probed, false): // from a probe to a backend's service address
		return redirect
	case local || nobodys(q.source): // from this host
		return pass
	}
	return actionFor(q.matches(q.destination, q.destinationPort, r.Replies, true)) // from a client to a backend
}

func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
