package sched

import (
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/dchest/siphash"

	"sluice/pipeline/counter"
)

// mh selects the backend of a client address, or of a client's address and port, from a Maglev
// table. Every host with the same hash key
// and the same backends has the same table, whatever the order of the backends.
//
// The table is made of the last weights that were not 0, so neither a drain nor a failing backend
// moves clients of the others. A client with an unusable backend tries further slots, always the
// same ones in the same order, and takes the first usable backend; if it finds none, the usable
// backends compete for it (compete). So the clients of a lost backend are distributed over all
// others by weight, no other client moves, and when it is usable again, exactly its clients return.
type mh struct {
	ring
	key     clientKey
	ports   bool // the client's port is hashed, too
	table   *maglev
	choices []int32 // by the rank that the table holds: candidate index, -1 if unusable
	rivals  []rival // the usable candidates, sorted by key
}

// rival is a usable candidate in the competition for a client.
type rival struct {
	id     uint64 // hash of the backend's key
	weight float64
	index  int32 // into the candidates
}

// probes bounds the further slots. All are unusable for one client in 130,000 if half of the slots
// have usable backends, and for one in six if a tenth has.
const probes = 16

// maxRanks is how many backends an mh service may have: a rank is 16 bits and one value means an
// empty slot.
const maxRanks = math.MaxUint16

func (b *Builder) newMH(c []Candidate, ports bool) (*mh, error) {
	ranked := make([]int32, 0, len(c)) // candidate index by rank
	for i := range c {
		if mhWeight(&c[i]) > 0 {
			ranked = append(ranked, int32(i))
		}
	}
	slices.SortFunc(ranked, func(i, j int32) int { return c[i].Key.Compare(c[j].Key) })
	if len(ranked) > maxRanks {
		return nil, fmt.Errorf("scheduler mh: %d backends in one service: at most %d are allowed", len(ranked), maxRanks)
	}
	members := make([]member, len(ranked))
	s := &mh{ring: newRing(c), key: newClientKey(b.k0, b.k1), ports: ports, choices: make([]int32, len(ranked))}
	for rank, i := range ranked {
		if rank > 0 && c[i].Key == members[rank-1].key {
			return nil, fmt.Errorf("scheduler mh: backend %s is listed twice: give each its own address or port", c[i].Key)
		}
		members[rank] = member{c[i].Key, mhWeight(&c[i])}
		s.choices[rank] = -1
		if c[i].usable() {
			id := identity(c[i].Key)
			s.choices[rank] = i
			s.rivals = append(s.rivals, rival{siphash.Hash(b.k0, b.k1, id[:]), float64(c[i].Weight), i})
		}
	}
	s.table = b.maglev(members)
	return s, nil
}

// mhWeight returns the weight of a candidate in the table.
func mhWeight(c *Candidate) uint32 {
	if c.Weight > 0 {
		return c.Weight
	}
	return c.LastWeight
}

func (s *mh) Pick(_ *State, _ *counter.Loads, k *Key) int {
	if len(s.rivals) == 0 {
		return -1
	}
	h := s.key.hash(k, s.ports)
	for range 1 + probes {
		slot, _ := bits.Mul64(h, maglevSlots)
		if i := s.choices[s.table[slot]]; i >= 0 {
			return int(i)
		}
		h = mix(h + goldenGamma)
	}
	return s.compete(h)
}

// ByHash implements Scheduler.
func (s *mh) ByHash(_ uint64, k *Key) int { return s.Pick(nil, nil, k) }

// explain follows Pick.
func (s *mh) explain(a *asked) Explanation {
	hash := "Maglev hash of the client address"
	if s.ports {
		hash += " and port"
	}
	if len(s.rivals) == 0 {
		return Explanation{Rule: hash + ": no backend may take a new connection"}
	}
	h := s.key.hash(a.key, s.ports)
	for tries := range 1 + probes {
		slot, _ := bits.Mul64(h, maglevSlots)
		if s.choices[s.table[slot]] >= 0 {
			rule := fmt.Sprintf("%s: slot %d of %d", hash, slot, maglevSlots)
			if tries > 0 {
				rule += fmt.Sprintf(", after %d with backends that may take no new connection", tries)
			}
			return Explanation{Rule: rule}
		}
		h = mix(h + goldenGamma)
	}
	return Explanation{Rule: fmt.Sprintf("%s: %d slots with backends that may take no new connection, then a draw by weight", hash, 1+probes)}
}

// compete chooses by weighted rendezvous hashing (Schindelhauer and Schomaker, SPAA 2005): every
// backend draws an exponential variate with its weight as the rate, from its id and the client's
// hash; the smallest wins.
func (s *mh) compete(h uint64) int {
	winner, smallest := int32(-1), math.Inf(1)
	for i := range s.rivals {
		r := &s.rivals[i]
		uniform := (float64(mix(h^r.id)>>11) + 0.5) / (1 << 53)
		if x := -math.Log(uniform) / r.weight; x < smallest {
			winner, smallest = r.index, x
		}
	}
	return int(winner)
}
