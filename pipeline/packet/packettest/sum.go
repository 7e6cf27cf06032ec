package packettest

import (
	"encoding/binary"
	"fmt"
)

// plus adds two 16-bit numbers and brings the carry round: the obvious way, one addition at a time.
func plus(a, b uint16) uint16 {
	t := uint32(a) + uint32(b)
	if t > 0xffff {
		t -= 0xffff
	}
	return uint16(t)
}

// sum is the ones' complement sum of b, word by word.
func sum(b []byte) uint16 {
	var s uint16
	for i := 0; i < len(b); i += 2 {
		word := uint16(b[i]) << 8
		if i+1 < len(b) {
			word |= uint16(b[i+1])
		}
		s = plus(s, word)
	}
	return s
}

// CheckSums verifies every checksum in the frame, those in tunnelled packets included, and says
// which is wrong. A packet embedded in an ICMP error is looked at as far as it is there whole.
// Packets that aren't IP have none.
func CheckSums(frame []byte) error {
	if len(frame) < 14 {
		return nil
	}
	ip := frame[14:]
	etherType := binary.BigEndian.Uint16(frame[12:])
	for (etherType == 0x8100 || etherType == 0x88a8) && len(ip) >= 4 {
		etherType = binary.BigEndian.Uint16(ip[2:])
		ip = ip[4:]
	}
	switch etherType {
	case 0x0800, 0x86dd:
		return checkIP(ip)
	}
	return nil
}

func checkIP(ip []byte) error {
	if len(ip) < 20 {
		return nil
	}
	if ip[0]>>4 == 6 {
		return checkIP6(ip)
	}
	length, total := int(ip[0]&15)*4, int(binary.BigEndian.Uint16(ip[2:]))
	if length < 20 || length > len(ip) {
		return nil
	}
	if sum(ip[:length]) != 0xffff {
		return fmt.Errorf("IPv4 header checksum %#04x is wrong", binary.BigEndian.Uint16(ip[10:]))
	}
	if total < length || total > len(ip) || binary.BigEndian.Uint16(ip[6:])&0x3fff != 0 {
		return nil
	}
	return checkTransport(ip[9], sum(ip[12:20]), ip[length:total])
}

func checkIP6(ip []byte) error {
	if len(ip) < 40 {
		return nil
	}
	total := 40 + int(binary.BigEndian.Uint16(ip[4:]))
	if total > len(ip) {
		return nil
	}
	next, at := ip[6], 40
	for next == 0 || next == 43 || next == 60 {
		if at+8 > total {
			return nil
		}
		next, at = ip[at], at+8+int(ip[at+1])*8
	}
	if at > total {
		return nil
	}
	return checkTransport(next, sum(ip[8:40]), ip[at:total])
}

// checkTransport verifies the payload of an IP packet; addresses is the sum of its source and
// destination.
func checkTransport(proto uint8, addresses uint16, b []byte) error {
	pseudo := plus(addresses, plus(uint16(proto), uint16(len(b))))
	name, field := "", 0
	switch proto {
	case 4, 41:
		return checkIP(b)
	case 1:
		name, field, pseudo = "ICMP", 2, 0
	case 58:
		name, field = "ICMPv6", 2
	case 6:
		name, field = "TCP", 16
	case 17:
		name, field = "UDP", 6
		if len(b) >= 8 {
			n := int(binary.BigEndian.Uint16(b[4:]))
			if n < 8 || n > len(b) || b[6] == 0 && b[7] == 0 {
				return nil
			}
			b, pseudo = b[:n], plus(addresses, plus(17, uint16(n)))
		}
	default:
		return nil
	}
	if len(b) < field+2 {
		return nil
	}
	if plus(pseudo, sum(b)) != 0xffff {
		return fmt.Errorf("%s checksum %#04x is wrong", name, binary.BigEndian.Uint16(b[field:]))
	}
	if (proto == 1 && (b[0] == 3 || b[0] == 4 || b[0] == 11 || b[0] == 12) || proto == 58 && b[0] < 128) && len(b) > 8 {
		if err := checkIP(b[8:]); err != nil {
			return fmt.Errorf("embedded in %s error: %w", name, err)
		}
	}
	return nil
}
