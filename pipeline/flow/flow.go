// Package flow hashes the end of a connection that determines its owner.
//
// A flow is identified by its client: address, port and protocol. These are the same in both
// directions - the source of the client's packets and the destination of the backend's - so one
// hash finds the owner and the place in the connection table for both.
package flow

import (
	"math/bits"

	"sluice/pipeline/packet"
)

// Seed is the key of the hash. All workers of a process share one, drawn at random when the process
// starts, so that a sender cannot choose the worker or the place in the table of its flows (Crosby
// and Wallach, 2003). All but a few of the 2^128 seeds are good; 0 and -1 are not.
type Seed struct{ A, B uint64 }

// Hash mixes the client's address, port and protocol into 64 bits. It must not be compared between
// processes.
//
// The address is multiplied with the seed, 64 by 64 bits, and the halves are folded, as in wyhash
// (Wang Yi, 2019). That alone leaves neighbouring addresses neighbours under some seeds; two more
// such multiplications, by constants, scatter them under any.
func (s *Seed) Hash(client packet.Addr, port uint16, proto uint8) uint64 {
	h := fold(client.Lo^s.A, client.Hi^s.B) ^ (uint64(port)<<8|uint64(proto))*0x9e3779b97f4a7c15
	return fold(fold(h, 0xd6e8feb86659fd93), 0xff51afd7ed558ccd)
}

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// Owner returns the worker, of so many, that owns the flow with this hash. It uses the low half of
// the hash; the connection table uses the high half.
func Owner(hash uint64, workers int) int {
	return int(uint64(uint32(hash)) * uint64(workers) >> 32)
}
