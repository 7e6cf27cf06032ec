package rewrite

import (
	"encoding/binary"

	"sluice/pipeline/packet"
)

// LaterNAT changes the addresses of a fragment without a transport header, and its identification.
// src and dst are of the packet's family; those that stay are the packet's own. It lowers the TTL
// or hop limit as NATIn does. The checksum of the transport header is in the first fragment, and
// covers the addresses there.
func LaterNAT(mem []byte, m *packet.Meta, src, dst packet.Addr, id uint32) {
	m.TTL--
	if m.Family == 4 {
		ip := packet.V4(mem, m.L3)
		d := put32(ip[12:], src.V4()) + put32(ip[16:], dst.V4())
		ip[8] = m.TTL
		applyDiff(ip[10:], d+ttlFell)
	} else {
		ip := packet.V6(mem, m.L3)
		ip[7] = m.TTL
		putAddr6(ip[8:], src)
		putAddr6(ip[24:], dst)
	}
	SetID(mem, m, id)
}

// SetID sets the identification of a fragment. In IPv4 it is the low half of id.
func SetID(mem []byte, m *packet.Meta, id uint32) {
	if m.Family == 4 {
		ip := packet.V4(mem, m.L3)
		applyDiff(ip[10:], put16(ip[4:], uint16(id)))
		return
	}
	binary.BigEndian.PutUint32(mem[m.FragmentHeader+4:], id)
}
