// Package flow names the two ends of a conversation that decide who owns it, and hashes them.
//
// A flow is known by its client: address, port and protocol. That triple reads the same from either
// direction - it is the source of what the client sends and the destination of what a backend
// answers - so one hash finds the owning worker and the connection's place in the table both ways.
package flow

import (
	"math/bits"

	"sluice/pipeline/packet"
)

// Seed keys the hash. All workers of a process share one, drawn at random when the process starts,
// so that nobody outside can aim packets at one worker or one bucket (Crosby and Wallach, 2003).
// All but a few of the 2^128 seeds are good; 0 and -1 are not.
type Seed struct{ A, B uint64 }

// Hash mixes the client's address, port and protocol into 64 bits, keyed by the seed. Equal clients
// give equal hashes for as long as the seed lives; hashes are never compared between machines.
//
// The address is multiplied with the secret, 64 by 64 bits, and the halves folded, as wyhash does
// (Wang Yi, 2019). That alone leaves neighbouring addresses neighbours under unlucky secrets; two
// more such multiplications, by constants, scatter them under any.
func (s *Seed) Hash(client packet.Addr, port uint16, proto uint8) uint64 {
	h := fold(client.Lo^s.A, client.Hi^s.B) ^ (uint64(port)<<8|uint64(proto))*0x9e3779b97f4a7c15
	return fold(fold(h, 0xd6e8feb86659fd93), 0xff51afd7ed558ccd)
}

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// Owner says which of so many workers owns the flow with this hash. It uses the hash's low half,
// the connection table its high half.
func Owner(hash uint64, workers int) int {
	return int(uint64(uint32(hash)) * uint64(workers) >> 32)
}
