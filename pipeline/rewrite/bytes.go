package rewrite

import "encoding/binary"

// Short names for the network's byte order.
func be16(b []byte) uint16       { return binary.BigEndian.Uint16(b) }
func be32(b []byte) uint32       { return binary.BigEndian.Uint32(b) }
func setBE16(b []byte, v uint16) { binary.BigEndian.PutUint16(b, v) }
func setBE32(b []byte, v uint32) { binary.BigEndian.PutUint32(b, v) }
func setBE64(b []byte, v uint64) { binary.BigEndian.PutUint64(b, v) }
