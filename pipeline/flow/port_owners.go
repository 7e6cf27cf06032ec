package flow

import (
	"bytes"
	"math/bits"

	"sluice/pipeline/packet"
)

// MaxPortOwners is the maximum number of workers that ports can be divided among.
const MaxPortOwners = 255

// PortOwners says which worker has each local port towards a backend: the worker that the NIC
// delivers the backend's packets to that port to. One PortOwners serves all backends behind a NIC
// port; each has a Base.
//
// The hash is linear: the hash of a reply is that of the same reply to port 0, the Base, xor the
// hash of the port alone, and the port has only two bytes. A PortOwners is immutable; any goroutine
// may use it.
type PortOwners struct {
	key  []byte
	mask uint32
	// owners: by the low bits of the hash; noWorker: delivered to a queue without a worker
	owners    []uint8
	high, low [256]uint32
	// words: by worker and by low bits of the hash of the first of 64 ports: the worker's ports
	// among them
	words [][]uint64
}

// noWorker is the owner of ports with packets that no worker would receive.
const noWorker = 255

// NewPortOwners divides the ports among workers. worker returns the worker of an RX queue, -1 if
// the queue has none. The result is nil if the NIC's hash cannot be used: it does not include the
// ports for this protocol and family, its table or key has an unusable size, or the ports do not
// reach all of the table.
//
// Each worker gets at least half of an even portion, even if it has no queue or the table favours
// others: ports with packets that have to be handed over are better than none.
func NewPortOwners(r *RSS, proto uint8, is4 bool, workers int, worker func(queue int) int) *PortOwners {
	n, input := len(r.Queues), tupleBytes(is4)
	if !r.HashesPorts(proto, is4) || len(r.Key) < input+4 || n&(n-1) != 0 || n < 2*workers || workers > MaxPortOwners {
		return nil
	}
	s := &PortOwners{key: r.Key, mask: uint32(n - 1)}
	for b := range 256 {
		s.high[b] = Toeplitz(r.Key[input-2:], []byte{byte(b)})
		s.low[b] = Toeplitz(r.Key[input-1:], []byte{byte(b)})
	}
	if !s.reachesAll() || !s.assign(r.Queues, workers, worker) {
		return nil
	}
	s.fillWords(workers)
	return s
}

// ofPort returns the hash of the port alone.
func (s *PortOwners) ofPort(port uint16) uint32 { return s.high[port>>8] ^ s.low[port&255] }

// reachesAll reports whether the ports reach every entry of the table, and so each equally often:
// the hashes of the sixteen bits have full rank.
func (s *PortOwners) reachesAll() bool {
	var basis [32]uint32 // by highest bit
	rank := 0
	for bit := range 16 {
		for h := s.ofPort(1<<bit) & s.mask; h != 0; {
			top := bits.Len32(h) - 1
			if basis[top] == 0 {
				basis[top] = h
				rank++
				break
			}
			h ^= basis[top]
		}
	}
	return rank == bits.Len32(s.mask)
}

// assign determines an owner for each entry of the table. It returns false if no queue has a
// worker.
func (s *PortOwners) assign(queues []uint16, workers int, worker func(queue int) int) bool {
	s.owners = make([]uint8, len(queues))
	count := make([]int, workers)
	for i, q := range queues {
		s.owners[i] = noWorker
		if w := worker(int(q)); w >= 0 {
			s.owners[i] = uint8(w)
			count[w]++
		}
	}
	ours := 0
	for _, n := range count {
		ours += n
	}
	least := ours / (2 * workers)
	if least == 0 {
		return false
	}
	for {
		poor, rich := extremes(count)
		if count[poor] >= least {
			return true
		}
		s.owners[bytes.IndexByte(s.owners, uint8(rich))] = uint8(poor)
		count[rich]--
		count[poor]++
	}
}

// extremes returns the indexes of the smallest and of the largest number.
func extremes(of []int) (smallest, largest int) {
	for i, n := range of {
		if n < of[smallest] {
			smallest = i
		}
		if n > of[largest] {
			largest = i
		}
	}
	return smallest, largest
}

func (s *PortOwners) fillWords(workers int) {
	s.words = make([][]uint64, workers)
	for w := range s.words {
		s.words[w] = make([]uint64, len(s.owners))
	}
	for first := range s.owners {
		for i := range 64 {
			if w := s.owners[(uint32(first)^s.low[i])&s.mask]; w != noWorker {
				s.words[w][first] |= 1 << i
			}
		}
	}
}

// Base returns what Owner and Word need of the backend and the local address, which are of the
// family that the PortOwners was made for.
func (s *PortOwners) Base(backend packet.Addr, port uint16, local packet.Addr) uint32 {
	var b [36]byte
	return Toeplitz(s.key, tuple(&b, backend, local, port, 0))
}

// Class returns what Owner and Word depend on of a base: few bases differ in it.
func (s *PortOwners) Class(base uint32) uint32 { return base & s.mask }

// Owner returns the worker that has the port, or a number above all workers if the NIC delivers its
// packets to a queue without a worker.
func (s *PortOwners) Owner(base uint32, port uint16) int {
	return int(s.owners[(base^s.ofPort(port))&s.mask])
}

// Word returns which of the ports from 64*w on the worker has, one bit each: the first is bit 0.
func (s *PortOwners) Word(worker int, base uint32, w int) uint64 {
	return s.words[worker][(base^s.ofPort(uint16(w<<6)))&s.mask]
}
