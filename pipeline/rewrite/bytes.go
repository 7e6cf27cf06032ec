package rewrite

import (
	"encoding/binary"

	"sluice/pipeline/packet"
)

// Short names for the network's byte order.
func be16(b []byte) uint16       { return binary.BigEndian.Uint16(b) }
func be32(b []byte) uint32       { return binary.BigEndian.Uint32(b) }
func be64(b []byte) uint64       { return binary.BigEndian.Uint64(b) }
func setBE16(b []byte, v uint16) { binary.BigEndian.PutUint16(b, v) }
func setBE32(b []byte, v uint32) { binary.BigEndian.PutUint32(b, v) }
func setBE64(b []byte, v uint64) { binary.BigEndian.PutUint64(b, v) }

// put16 writes v over a field and returns the difference that this makes to checksums over it.
func put16(b []byte, v uint16) packet.Diff {
	old := be16(b)
	setBE16(b, v)
	return packet.Diff16(old, v)
}

// put32 is put16 for a field of 32 bits.
func put32(b []byte, v uint32) packet.Diff {
	old := be32(b)
	setBE32(b, v)
	return packet.Diff32(old, v)
}

// putAddr6 is put16 for an IPv6 address.
func putAddr6(b []byte, a packet.Addr) packet.Diff {
	old := packet.Addr{Hi: be64(b), Lo: be64(b[8:])}
	setBE64(b, a.Hi)
	setBE64(b[8:], a.Lo)
	return packet.DiffAddr(old, a)
}

// fix applies the difference d to the checksum at the start of b.
func fix(b []byte, d packet.Diff) { setBE16(b, d.Update(be16(b))) }

// fixUDP is fix for the checksum of UDP, where 0 means none.
func fixUDP(b []byte, d packet.Diff) { setBE16(b, d.UpdateUDP(be16(b))) }
