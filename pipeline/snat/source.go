package snat

import (
	"math/bits"
	"reflect"

	"sluice/pipeline/flow"
	"sluice/pipeline/packet"
)

// MaxSources is the number of local addresses that fullnat can send from.
const MaxSources = 256

// FirstPort is the first SNAT port: those below are privileged.
const FirstPort = 1024

// Source is a local address that fullnat sends from.
type Source struct {
	Addr  packet.Addr
	Ports *PortSet // that may be allocated, divided among all workers
}

// Ref is a source as the connections of one backend may use it. Backends with the same address and
// port share its pools, because their connections could not be told apart.
//
// If the hash of the NIC is known, ports are divided by it (Owners), so that a reply arrives at the
// worker that has the port. Otherwise ports are dealt out in turn, and replies are handed over.
type Ref struct {
	Source     uint8   // index into the sources
	Proto      uint8   // IP protocol number of the connections
	Configured bool    // configured now; false: only existing connections use it
	Pools      []*Pool // by worker, each of which uses its own
	// Owners: nil: ports are dealt out in turn. The same for all sources of a backend's address and
	// port
	Owners *flow.PortOwners
	// Owners.Base of the backend's address and port and the source, if Owners is not nil
	Base uint32
}

// NewPools makes the pools of all workers, with layouts from l, to which it adds. allowed is the
// initial set of ports that may be allocated: see Source. start is the port from which on they are:
// it should be another after each start of the daemon, since the backend may still have connections
// of the one before.
func (r *Ref) NewPools(l Layouts, allowed *PortSet, workers int, start uint16) []*Pool {
	pools := make([]*Pool, workers)
	for worker := range pools {
		pools[worker] = newPool(l.of(r, worker, workers), allowed, start)
	}
	return pools
}

// PoolBytes returns the size of the pools of all workers for one source and one backend, in bytes:
// while no port of them is in use, and while all are.
func PoolBytes(workers int) (least, most int) {
	least = workers * (int(reflect.TypeFor[Pool]().Size()) + 8)
	roots, blocks, pages := workers, workers*len(root{}.words), len(root{}.pages)+workers
	most = least + roots*new(store[root]).bytes(1) + blocks*new(store[words]).bytes(1) + pages*new(store[page]).bytes(1)
	return least, most
}

// ports returns the worker's ports among the 64 from 64*w on, one bit each.
func (r *Ref) ports(worker, workers, w int) uint64 {
	if r.Owners == nil {
		return inTurn(worker, workers, w)
	}
	return r.Owners.Word(worker, r.Base, w)
}

// inTurn returns the worker's ports among the 64 from 64*w on if port p belongs to worker
// p % workers.
func inTurn(worker, workers, w int) (ports uint64) {
	ports = 1
	for step := workers; step < 64; step *= 2 {
		ports |= ports << step
	}
	first := (worker - w<<6%workers + workers) % workers
	return ports << first
}

// PortSet is a set of port numbers, one bit each: 8 KiB.
type PortSet [1024]uint64

// Add adds the ports from first to last.
func (s *PortSet) Add(first, last uint16) {
	for p := int(first); p <= int(last); p++ {
		s[p>>6] |= 1 << (p & 63)
	}
}

// Has reports whether the port is in the set.
func (s *PortSet) Has(port uint16) bool { return s[port>>6]>>(port&63)&1 != 0 }

// Len returns the number of ports in the set.
func (s *PortSet) Len() (n int) {
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// At returns the port that has n lower ones in the set. n must be less than Len.
func (s *PortSet) At(n int) uint16 {
	w := 0
	for ; n >= bits.OnesCount64(s[w]); w++ {
		n -= bits.OnesCount64(s[w])
	}
	word := s[w]
	for ; n > 0; n-- {
		word &= word - 1
	}
	return uint16(w<<6 + bits.TrailingZeros64(word))
}
