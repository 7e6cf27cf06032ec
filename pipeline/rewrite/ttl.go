package rewrite

import "sluice/pipeline/packet"

// DecTTL lowers the TTL or hop limit of the outermost IP header by one. The caller has made sure
// that it is above 1.
//
// The word of TTL and protocol falls by 0x0100, so the checksum rises by 0x0100, with end-around
// carry. A result of 0xffff becomes 0 (RFC 1624).
func DecTTL(mem []byte, m *packet.Meta) {
	m.TTL--
	if m.Family == 6 {
		mem[m.L3+7] = m.TTL
		return
	}
	h := packet.V4(mem, m.L3)
	h[8] = m.TTL
	sum := uint32(be16(h[10:])) + 0x0100
	setBE16(h[10:], uint16(sum+(sum+1)>>16))
}
