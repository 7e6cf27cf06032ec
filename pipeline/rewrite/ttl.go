package rewrite

import "sluice/pipeline/packet"

// DecTTL lowers the TTL or hop limit of the outermost IP header by one. The caller has made sure that it is above 1.
func DecTTL(mem []byte, m *packet.Meta) {
	m.TTL--
	if m.Family == 6 {
		mem[m.L3+7] = m.TTL
		return
	}
	h := (*[packet.IPv4Len]byte)(mem[m.L3:])
	h[8] = m.TTL
	// The word of TTL and protocol falls by 0x0100, whatever it is; that is ^0x0100 in ones' complement.
	setBE16(h[10:], packet.Sum(0xfeff).Update(be16(h[10:])))
}
