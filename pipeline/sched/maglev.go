package sched

import (
	"encoding/binary"
	"net/netip"

	"github.com/dchest/siphash"
)

// maglevSlots is the size of a Maglev table: a prime, so that every step but 0 visits every slot.
//
// 65537 is what the paper and Katran use. When one of ten backends is taken out of the
// configuration, 0.34 % of the other backends' clients move; with IPVS's 4093 it is 1.2 %, with ten
// times as many slots 0.09 %. A table takes 131 kB, hence fits a core's L2 cache, and 1000 services
// with 1000 different lists of backends take 131 MB, which ten times as many slots would not.
const maglevSlots = 65537

// MHBytes is the size of a Maglev table in bytes. Services with equal backends share one.
const MHBytes = 2 * maglevSlots

// emptySlot marks a slot without an owner. No rank is as high.
const emptySlot = maxRanks

// maglev maps slots to ranks, that is, to positions in the list of members that it was built from.
type maglev [maglevSlots]uint16

// member is a backend in a table. Lists of members are sorted by key and have no equal keys.
type member struct {
	key    netip.AddrPort
	weight uint32 // not 0
}

// walk is a backend's sequence of slots: it claims the first free ones.
type walk struct {
	slot, step uint32
	weight     uint64
	turns      uint64 // slots claimed
	due        uint64 // round of its next turn
}

// newMaglev builds the table of Eisenbud and others, "Maglev" (NSDI 2016), section 3.4. In the
// paper backends claim slots in turn; here the heaviest has a turn in every round and the others in
// as many rounds as their weight is of its weight. Turns depend on the quotient of two weights
// only, so what one backend does disturbs the others' order little.
func newMaglev(k0, k1 uint64, members []member) *maglev {
	t := new(maglev)
	for i := range t {
		t[i] = emptySlot
	}
	heaviest := uint64(0)
	for i := range members {
		heaviest = max(heaviest, uint64(members[i].weight))
	}
	walks := make([]walk, len(members))
	for i := range members {
		walks[i] = newWalk(k0, k1, &members[i])
		walks[i].schedule(heaviest)
	}
	free := maglevSlots
	for round := uint64(1); len(members) > 0; round++ {
		for rank := range walks {
			w := &walks[rank]
			if w.due > round {
				continue
			}
			t[w.claim(t)] = uint16(rank)
			if free--; free == 0 {
				return t
			}
			w.turns++
			w.schedule(heaviest)
		}
	}
	return t
}

// newWalk derives a backend's beginning and step from its address and port.
func newWalk(k0, k1 uint64, m *member) walk {
	id := identity(m.key)
	a, b := siphash.Hash128(k0, k1, id[:])
	return walk{slot: uint32(a % maglevSlots), step: uint32(b%(maglevSlots-1)) + 1, weight: uint64(m.weight)}
}

// identity returns the hash input of a backend: its address and port.
func identity(key netip.AddrPort) (id [18]byte) {
	addr := key.Addr().As16()
	copy(id[:], addr[:])
	binary.BigEndian.PutUint16(id[16:], key.Port())
	return id
}

// schedule sets the round of the next turn: turn n comes in the first round r with r * weight >= n
// * heaviest.
func (w *walk) schedule(heaviest uint64) {
	w.due = ((w.turns+1)*heaviest + w.weight - 1) / w.weight
}

// claim claims the next free slot. There must be one.
func (w *walk) claim(t *maglev) uint32 {
	for t[w.slot] != emptySlot {
		w.slot += w.step
		if w.slot >= maglevSlots {
			w.slot -= maglevSlots
		}
	}
	return w.slot
}
