package frame

import "encoding/binary"

// Sort classifies a received frame.
type Sort uint8

// The sorts.
const (
	Other   Sort = iota // neither TCP nor UDP over IP
	Plain               // TCP or UDP without a stamp
	Stamped             // with a stamp
)

const (
	typeIPv4 = 0x0800
	typeIPv6 = 0x86dd
	typeVLAN = 0x8100
	typeQinQ = 0x88a8
)

// Read returns the stamp of a frame, also behind one VLAN tag and in the inner packet of one
// tunnel. It accepts exactly what sink.c of package bpf accepts.
func Read(frame []byte) (Stamp, Sort) {
	if len(frame) < ethernetBytes+4 {
		return Stamp{}, Other
	}
	kind, at := binary.BigEndian.Uint16(frame[12:]), ethernetBytes
	if kind == typeVLAN || kind == typeQinQ {
		kind, at = binary.BigEndian.Uint16(frame[16:]), at+4
	}
	if kind != typeIPv4 && kind != typeIPv6 {
		return Stamp{}, Other
	}
	protocol, rest := skipIP(frame[at:])
	if protocol == 4 || protocol == 41 {
		protocol, rest = skipIP(rest)
	}
	switch {
	case protocol == 17:
		rest = rest[min(udpBytes, len(rest)):]
	case protocol == 6 && len(rest) >= tcpBytes:
		rest = rest[min(int(rest[12]>>4)*4, len(rest)):]
	case protocol == 6:
		return Stamp{}, Plain
	default:
		return Stamp{}, Other
	}
	if stamp, ok := getStamp(rest); ok {
		return stamp, Stamped
	}
	return Stamp{}, Plain
}

// skipIP returns the protocol that follows an IP header, 0 if there is none, and what follows.
func skipIP(b []byte) (protocol uint8, rest []byte) {
	if len(b) < ipv4Bytes {
		return 0, nil
	}
	switch b[0] >> 4 {
	case 4:
		return b[9], b[min(max(int(b[0]&15)*4, ipv4Bytes), len(b)):]
	case 6:
		return b[6], b[min(ipv6Bytes, len(b)):]
	}
	return 0, nil
}
